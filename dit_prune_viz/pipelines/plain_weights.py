"""Refuse what only looks like plain weights: quantised layers, and adapters that stand beside the layers.

A quantised layer holds codes, which say nothing about which weight is small; a layer with a LoRA adapter computes with
W + BA, of which only W would be pruned. Neither bitsandbytes, torchao, quanto, gguf nor peft has to be installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import torch
from torch import nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.denoisers import is_denoiser, named_denoisers
from dit_prune_viz.pipelines.dequantizing import is_fp8
from dit_prune_viz.pipelines.matrices import CONVOLUTIONS
from dit_prune_viz.pipelines.weight_files import Part, adapter_refusal

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PLAIN_STORED = ("F64", "F32", "BF16", "F16")
_QUANTISERS = re.compile(
    r"(bitsandbytes|torchao|(optimum\.)?quanto|diffusers\.quantizers|transformers\.integrations\.(finegrained_fp8|bitnet)"
    r"|hqq|awq|auto_gptq|gptqmodel|nunchaku|modelopt|compressed_tensors)(\.|$)"
)
_MAKERS = {
    "wscales": "nunchaku, SVDQuant",
    "smooth_factor": "nunchaku, SVDQuant",
    "smooth": "nunchaku, SVDQuant",
    "qweight": "GPTQ, AWQ or the like",
    "absmax": "bitsandbytes",
    "quant_map": "bitsandbytes",
    "SCB": "bitsandbytes",
    "nested_absmax": "bitsandbytes",
}
"""What stands beside codes, and whose it is."""
_CODES = re.compile(rf"\.({'|'.join(_MAKERS)})$")
_ADAPTER = re.compile(r"(^|\.)(lora_\w+|base_layer|to_\w+_lora)\.")


def check_files(part: Part, name: str) -> None:
    """Refuse a part of a pipeline by its config and the names and types of the tensors in the files to be loaded.

    Loading would not show it: stored fp8 is turned into another precision, and where the weights of an adapter are
    stored beside those of its layers, the layers would start from random numbers.

    Args:
        part: only a transformer's weights have to be plain; no part may have an adapter.
        name: of the model, for people.

    Raises:
        UserError: quantised weights, an adapter that was not fused.
    """
    adapted = [_ADAPTER.search(key) is not None for key in part.tensors]
    if part.config is not None and all(adapted):
        raise UserError(f"{name} is a LoRA and no model; load the model that it was trained for with --lora {name}.")
    if any(adapted):
        raise UserError(adapter_refusal(name, part.name))
    if not is_denoiser(part.name):
        return
    try:
        config = json.loads((part.folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if part.config is None:  # that beside a single file is of another model
        _check_config(config, name)
    for key in part.tensors:
        codes = _CODES.search(key)
        if codes:
            raise UserError(_quantised(name, f"by {_MAKERS[codes[1]]}"))
    for key, stored in part.tensors.items():
        if key.endswith("weight") and len(stored.shape) > 1 and stored.dtype not in _PLAIN_STORED:
            raise UserError(_quantised(name, f"weights stored as {stored.dtype}", mendable=is_fp8(part)))


def check_transformer(transformer: nn.Module, name: str) -> None:
    """Refuse a loaded transformer with quantised layers or adapters anywhere.

    Raises:
        UserError: that.
    """
    for one in named_denoisers(transformer).values():
        _check_config(getattr(one, "config", None), name)
        if getattr(one, "hf_quantizer", None) is not None or getattr(one, "is_quantized", False) is True:
            raise UserError(_quantised(name, "by its loader"))
    for module in transformer.modules():
        check_layer(module, name)
    check_adapters(transformer, name)


def check_adapters(transformer: nn.Module, name: str) -> None:
    """UserError if an adapter has been loaded into the transformer, wherever it stands."""
    if any(getattr(one, "peft_config", None) for one in named_denoisers(transformer).values()):
        raise UserError(adapter_refusal(name))


def check_layer(module: nn.Module, name: str) -> None:
    """UserError if one module is quantised or has an adapter around it."""
    if hasattr(module, "base_layer") or hasattr(module, "lora_A") or getattr(module, "lora_layer", None) is not None:
        raise UserError(adapter_refusal(name))
    maker = _quantiser(type(module))
    if maker:
        raise UserError(_quantised(name, f"layers of {maker}"))
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return
    maker = _quantiser(type(weight))
    if maker:
        raise UserError(_quantised(name, f"weights of {maker}"))
    if hasattr(weight, "quant_state") or hasattr(weight, "quant_type"):
        raise UserError(_quantised(name, f"weights of type {type(weight).__name__}"))
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)) and weight.dtype not in _PLAIN:
        raise UserError(_quantised(name, f"weights of type {str(weight.dtype).removeprefix('torch.')}"))


def _check_config(config: object, name: str) -> None:
    found = config.get("quantization_config") if isinstance(config, Mapping) else None
    if found:
        method = found.get("quant_method") if isinstance(found, Mapping) else getattr(found, "quant_method", None)
        method = getattr(method, "value", method)
        raise UserError(_quantised(name, f"by {method}" if method else "by its configuration"))


def _quantiser(kind: type) -> str | None:
    """The package that made a quantised layer or tensor, by where its class or one of its bases was defined."""
    matches = (_QUANTISERS.match(base.__module__) for base in kind.__mro__)
    return next((match[1] for match in matches if match), None)


def _quantised(name: str, how: str, *, mendable: bool = False) -> str:
    way = (
        "load it with --dequantize, or the model it was made from," if mendable else "load the model it was made from,"
    )
    return (
        f"The transformer of {name} is quantised ({how}), so its weights cannot be ranked; {way} it was made "
        "from, with weights in float32, bfloat16 or float16."
    )
