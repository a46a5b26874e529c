"""Refuse what only looks like plain weights: quantised layers, and adapters that stand beside the layers.

A quantised layer holds codes, which say nothing about which weight is small; a layer with a LoRA adapter computes with
W + BA, of which only W would be pruned. Neither bitsandbytes, torchao, quanto, gguf nor peft has to be installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dit_prune_viz.errors import UserError

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PLAIN_STORED = ("F64", "F32", "BF16", "F16")
_QUANTISERS = re.compile(
    r"(bitsandbytes|torchao|(optimum\.)?quanto|diffusers\.quantizers|transformers\.integrations\.(finegrained_fp8|bitnet)"
    r"|hqq|awq|auto_gptq|gptqmodel|nunchaku|modelopt|compressed_tensors)(\.|$)"
)
_FILE = re.compile(r"diffusion_pytorch_model(-\d+-of-\d+)?\.safetensors")  # what is loaded if no variant is asked for
_ADAPTER = re.compile(r"(^|\.)(lora_\w+|base_layer)\.")


def check_files(folder: Path, name: str) -> None:
    """Refuse a transformer's folder by its config and the names and types of the tensors in its files.

    Loading would not show it: stored fp8 is turned into another precision, and where the weights of an adapter are
    stored beside those of its layers, the layers would start from random numbers. Files that cannot be read are left
    to the loader.

    Args:
        folder: with config.json and safetensors files; may be missing.
        name: of the model, for people.

    Raises:
        UserError: quantised weights, an adapter that was not fused.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    _check_config(config, name)
    for file in sorted(folder.glob("*.safetensors")):
        if not _FILE.fullmatch(file.name):
            continue
        try:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - no mapping
                    if _ADAPTER.search(key):
                        raise UserError(_adapter(name))
                    part = tensors.get_slice(key)
                    if key.endswith("weight") and len(part.get_shape()) > 1 and part.get_dtype() not in _PLAIN_STORED:
                        raise UserError(_quantised(name, f"weights stored as {part.get_dtype()}"))
        except (OSError, SafetensorError):
            continue


def check_transformer(transformer: nn.Module, name: str) -> None:
    """Refuse a loaded transformer with quantised layers or adapters anywhere.

    Raises:
        UserError: that.
    """
    _check_config(getattr(transformer, "config", None), name)
    if getattr(transformer, "hf_quantizer", None) is not None or getattr(transformer, "is_quantized", False) is True:
        raise UserError(_quantised(name, "by its loader"))
    for module in transformer.modules():
        check_layer(module, name)
    check_adapters(transformer, name)


def check_adapters(transformer: nn.Module, name: str) -> None:
    """UserError if an adapter has been loaded into the transformer, wherever it stands."""
    if getattr(transformer, "peft_config", None):
        raise UserError(_adapter(name))


def check_layer(module: nn.Module, name: str) -> None:
    """UserError if one module is quantised or has an adapter around it."""
    if hasattr(module, "base_layer") or hasattr(module, "lora_A") or getattr(module, "lora_layer", None) is not None:
        raise UserError(_adapter(name))
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
    if isinstance(module, nn.Linear) and weight.dtype not in _PLAIN:
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


def _quantised(name: str, how: str) -> str:
    return (
        f"The transformer of {name} is quantised ({how}), so its weights cannot be ranked; load the model it was made "
        "from, with weights in float32, bfloat16 or float16."
    )


def _adapter(name: str) -> str:
    return (
        f"The transformer of {name} has a LoRA adapter, and only the weights under it would be pruned; fuse it with "
        "pipeline.fuse_lora() and pipeline.unload_lora_weights(), save the pipeline and load that folder."
    )
