"""Open a packed folder as a stock diffusers pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.packed_files import HEADER, read_header, read_packed
from dit_prune_viz.export.packed_tensor import DTYPES, PackedTensor, unpack_mask, unpack_tensor, unpack_values
from dit_prune_viz.export.resident import RESIDENT, make_resident
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.pipeline_index import INDEX, check_index, component
from dit_prune_viz.pipelines.source import LOAD_ERRORS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load_packed(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    resident: bool = False,
    progress: Progress | None = None,
) -> DiffusionPipeline:
    """Open a folder that `pack` wrote. Nothing but diffusers is needed to use what comes out.

    Args:
        folder: with model_index.json and packed.json beside the transformer's config.json.
        device: where the pipeline goes.
        dtype: precision to run in; None is the one the model was pruned in, with the same bits.
        resident: whether pruned layers keep their mask and values in memory and make their weight whenever they run,
            which takes half the memory or less and some time; the same bits come out.
        progress: called before every tensor; may raise `Cancelled`.

    Returns:
        The pipeline, its transformer in eval mode.

    Raises:
        UserError: no packed folder, one of a newer version, or files that are missing, cut short or changed.
    """
    folder = Path(folder).expanduser()
    index = _read_index(folder)
    headers = {part.parent.name: read_header(part.parent) for part in sorted(folder.glob(f"*/{HEADER}"))}
    if not headers:
        raise UserError(f"{folder} has no {HEADER} beside a transformer; give a folder that was packed.")
    check_index(index, [f"{name}/{HEADER}" for name in headers], name=str(folder))
    pruned = {
        name: _load_transformer(folder / name, index, name, header, resident, progress)
        for name, header in headers.items()
    }
    parts = next(iter(headers.values())).get("parts") or {}
    try:
        return _assemble(folder, index, pruned, parts, dtype).to(device)
    except LOAD_ERRORS as error:
        raise UserError(f"{folder} could not be loaded ({str(error).splitlines()[0][:200]}); pack it again.") from error


def _assemble(
    folder: Path, index: dict, pruned: dict, parts: dict, dtype: str | torch.dtype | None
) -> DiffusionPipeline:
    import diffusers

    # DiffusionPipeline itself would look for the files of parts that a pipeline may be without, also of those given.
    own = getattr(diffusers, str(index.get("_class_name")), diffusers.DiffusionPipeline)
    kinds = {name: getattr(torch, kind) for name, kind in parts.items() if kind in DTYPES}
    kinds["default"] = next(iter(pruned.values())).dtype
    pipeline = own.from_pretrained(folder, dtype=kinds, use_safetensors=True, **pruned)
    if dtype is not None:
        pipeline.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    return pipeline


def _load_transformer(
    folder: Path, index: dict, name: str, header: dict, resident: bool, progress: Progress | None
) -> nn.Module:
    import diffusers
    from accelerate import init_empty_weights

    if not component(index, name):
        raise UserError(f"{folder.parent / INDEX} names no {name}; pack the model again.")
    kind = getattr(diffusers, index[name][1], None)
    config = kind.load_config(folder)
    with init_empty_weights(include_buffers=False):
        transformer = kind.from_config(config)
    wanted = transformer.state_dict()
    missing = sorted(wanted.keys() - header["tensors"].keys()) + sorted(header["tensors"].keys() - wanted.keys())
    if missing:
        raise UserError(f"{folder} does not fit its config.json at {missing[0]}; download or pack the model again.")
    for key, entry in header["tensors"].items():
        if tuple(entry["shape"]) != tuple(wanted[key].shape):
            raise UserError(f"{key} in {folder} has another shape than its config.json asks for; pack it again.")
    layers = {f"{path}.weight": module for path, module in transformer.named_modules() if type(module) in RESIDENT}

    def read(packed: PackedTensor) -> Tensor | tuple[PackedMask, Tensor]:
        if resident and packed.name in layers and packed.entry.get("mask"):
            return unpack_mask(packed), unpack_values(packed)
        return unpack_tensor(packed)

    for key, value in read_packed(folder, header, read, progress=progress):
        if isinstance(value, Tensor):
            _put(transformer, key, value)
        else:
            make_resident(layers[key], *value)
    return transformer.eval().requires_grad_(False)


def _put(module: nn.Module, key: str, tensor: Tensor) -> None:
    path, _, last = key.rpartition(".")
    owner = module.get_submodule(path)
    if last in owner._parameters:
        owner._parameters[last] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[last] = tensor


def _read_index(folder: Path) -> dict:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        index = None
    if not isinstance(index, dict):
        raise UserError(f"{folder} has no readable {INDEX}; give a folder that was packed.")
    return index
