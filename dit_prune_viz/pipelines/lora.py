"""LoRA files: found before a pipeline is loaded, fused into its weights afterwards, W + scale·B·A.

diffusers knows the keys of the various trainers and peft adds the product; what they would leave out with a warning is
refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pipelines.hub import Checkout, cached, download, hub_files, is_hub_id, unreachable
from dit_prune_viz.pipelines.load_settings import LoadSettings, split_hub_path
from dit_prune_viz.pipelines.packages import require
from dit_prune_viz.pipelines.source import LOAD_ERRORS, local_path

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PEFT = "base_model.model."
_FACTOR = re.compile(r"(.+?)\.(?:(?:lora|lora_linear_layer)[._])(A|B|down|up)(?:\.\w+)?\.(weight|bias)")
_INPUT_SIDE = ("A", "down")
_TRANSFORMER = "transformer"


@dataclass(frozen=True)
class FoundLora:
    """A LoRA's file, its factor, and its name for people."""

    file: Path
    scale: float
    name: str


def find_loras(settings: LoadSettings, progress: Progress | None = None) -> tuple[FoundLora, ...]:
    """The files of the LoRAs that are asked for, downloaded where they lie on the hub.

    Raises:
        UserError: one of them is not there or no safetensors file, or peft is not installed.
    """
    if settings.loras:
        require("peft", "A LoRA")
    return tuple(
        FoundLora(_find(lora.source, settings.token, progress), lora.scale, lora.source) for lora in settings.loras
    )


def fuse_loras(pipeline: DiffusionPipeline, loras: Sequence[FoundLora], name: str) -> None:
    """Add LoRAs to a pipeline's weights, one after another; nothing of them is left beside the weights.

    Args:
        pipeline: as it was loaded.
        loras: as `find_loras` found them.
        name: of the model, for people.

    Raises:
        UserError: a LoRA of another model or of another kind, damaged or with numbers that are not finite.
    """
    for lora in loras:
        try:
            _fuse(pipeline, lora, name)
        except UserError:
            raise
        except LOAD_ERRORS as error:
            if out_of_memory(error):  # says nothing about the LoRA
                raise
            raise UserError(
                f"The LoRA {lora.name} could not be fused into {name} ({first_sentence(error)}); give one that was "
                "trained for this model."
            ) from error


def _find(source: str, token: str | None, progress: Progress | None) -> Path:
    path = local_path(source)
    if path is not None:
        file = path / _choose([one.name for one in path.iterdir()], source) if path.is_dir() else path
    else:
        hub_id, revision, inside = split_hub_path(source)
        if not is_hub_id(hub_id):
            raise UserError(f"There is no LoRA {source!r}; give a .safetensors file, a folder or a hub id.")
        file = _from_hub(Checkout(hub_id, revision, token, inside or ""), source, progress)
    if file.suffix != ".safetensors":
        raise UserError(f"The LoRA {source} is no .safetensors file; convert it, or give another one.")
    return file


def _from_hub(model: Checkout, source: str, progress: Progress | None) -> Path:
    listing = hub_files(model)
    single = PurePosixPath(model.path).suffix != ""
    if listing is None:
        found = cached(model, ("",) if single else _USUAL)
        if found is None:
            raise unreachable(model)
        return found
    if model.path in listing.sizes:
        file = model.path
    else:
        start = f"{model.path}/" if model.path else ""
        files = [one.removeprefix(start) for one in listing.sizes if one.startswith(start)]
        file = start + _choose([one for one in files if "/" not in one], source)
    return download(model, [file], listing, progress) / file


def _choose(files: Sequence[str], source: str) -> str:
    """The file of a LoRA in a folder."""
    weights = sorted(file for file in files if file.endswith(".safetensors"))
    usual = [file for file in _USUAL if file in weights]
    if usual or len(weights) == 1:
        return (usual or weights)[0]
    if not weights:
        raise UserError(f"The LoRA {source} has no .safetensors file; give another one.")
    raise UserError(f"The LoRA {source} has several files; give one of them, such as {source}/{weights[0]}.")


def _fuse(pipeline: DiffusionPipeline, lora: FoundLora, name: str) -> None:
    try:
        stored = load_file(lora.file)
    except (OSError, SafetensorError):
        raise UserError(f"The LoRA {lora.name} is damaged; download or save it again.") from None
    for key, tensor in stored.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"The LoRA {lora.name} holds NaN or infinite numbers in {key}; download it again.")
    if stored.keys() and all(key.startswith(_PEFT) for key in stored):  # saved by peft, without diffusers
        _fuse_into(pipeline.transformer, {key.removeprefix(_PEFT): one for key, one in stored.items()}, lora, name)
        return
    if not hasattr(pipeline, "lora_state_dict"):
        raise UserError(
            f"{name} takes no LoRA: diffusers has none for a {type(pipeline).__name__}; fuse it with the program that "
            "trained it."
        )
    tensors = pipeline.lora_state_dict(
        str(lora.file.parent), weight_name=lora.file.name, use_safetensors=True, local_files_only=True
    )
    tensors = tensors[0] if isinstance(tensors, tuple) else tensors
    parts = {key: getattr(pipeline, key, None) for key in pipeline._lora_loadable_modules}
    parts = {key: part for key, part in parts.items() if isinstance(part, nn.Module)}
    if not any(key.startswith(f"{part}.") for key in tensors for part in pipeline._lora_loadable_modules):
        _fuse_into(pipeline.transformer, tensors, lora, name)
        return
    used = set()
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        if part in pipeline._lora_loadable_modules and part not in parts:
            continue  # of a text encoder that is left out
        _check_key(parts.get(part), rest if part in parts else key, tensor, key, lora, name)
        used.add(part)
    pipeline.load_lora_weights(str(lora.file.parent), weight_name=lora.file.name, use_safetensors=True)
    pipeline.fuse_lora(components=sorted(used), lora_scale=lora.scale)
    pipeline.unload_lora_weights()


def _fuse_into(transformer: nn.Module, tensors: Mapping[str, torch.Tensor], lora: FoundLora, name: str) -> None:
    """Fuse factors that are named like the transformer's own layers; beside peft's file lie its settings."""
    for key, tensor in tensors.items():
        _check_key(transformer, key, tensor, key, lora, name)
    transformer.load_lora_adapter(dict(tensors), prefix=None, metadata=_settings(lora.file.parent))
    transformer.fuse_lora(lora_scale=lora.scale)
    transformer.unload_lora()


def _settings(folder: Path) -> dict | None:
    try:
        found = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    return {key: value for key, value in found.items() if key in known} if isinstance(found, dict) else None


def _check_key(part: nn.Module | None, path: str, tensor: torch.Tensor, key: str, lora: FoundLora, name: str) -> None:
    """Refuse a factor of a layer that is not there, or of another shape, and whatever is no factor at all."""
    if path.endswith(".alpha"):
        return
    match = _FACTOR.fullmatch(path)
    if match is None:
        raise UserError(
            f"The LoRA {lora.name} holds {key}, which is no pair of factors that can be fused; give a plain LoRA."
        )
    module = match[1] if hasattr(part, "text_model") else match[1].removeprefix("text_model.")
    try:
        layer = part.get_submodule(module) if part is not None else None
    except AttributeError:
        layer = None
    weight = getattr(layer, "weight", None)
    if weight is None:
        raise UserError(f"The LoRA {lora.name} is for another model than {name}, which has no layer for {key}; {_OWN}")
    if match[3] == "bias":
        return
    side = 1 if match[2] in _INPUT_SIDE else 0
    if tensor.ndim != weight.ndim or tensor.shape[side] != weight.shape[side]:
        raise UserError(
            f"The LoRA {lora.name} is for another model than {name}: {key} is {_shape(tensor)} and the layer's weight "
            f"{_shape(weight)}; {_OWN}"
        )


_OWN = "give one that was trained for this model."


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape))
