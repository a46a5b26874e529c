"""Open a packed folder as a stock diffusers pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dit_prune_viz.checks import brief, first_sentence
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.packed_files import read_packed
from dit_prune_viz.export.packed_header import HEADER, dense_bytes, read_header, resident_bytes
from dit_prune_viz.export.packed_tensor import DTYPES, PackedTensor, unpack_mask, unpack_tensor, unpack_values
from dit_prune_viz.export.resident import RESIDENT, make_resident
from dit_prune_viz.export.sums import check_sums
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.scratch import Scratch
from dit_prune_viz.pipelines.building import BUILDING
from dit_prune_viz.pipelines.denoisers import is_denoiser
from dit_prune_viz.pipelines.device import choose_device, choose_dtype
from dit_prune_viz.pipelines.pipeline_index import INDEX, check_index, component

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_BLOCKS = re.compile(r"(num|n)_(.*_)?(layers|blocks)")
_AGAIN = "download or pack the model again."


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
        UserError: no packed folder, one of a newer version, files that are missing, cut short or changed, too little
            memory, an unknown device or precision.
    """
    folder, device = Path(folder).expanduser(), choose_device(device)
    dtype = None if dtype is None else choose_dtype(dtype, device)
    index = _read_index(folder)
    headers = {part.parent.name: read_header(part.parent) for part in sorted(folder.glob(f"*/{HEADER}"))}
    if not headers:
        raise UserError(f"{folder} has no {HEADER} beside a transformer; give a folder that was packed.")
    check_sums(folder)
    check_index(index, [f"{name}/{HEADER}" for name in headers], name=str(folder))
    _check_memory(folder, headers, resident)
    parts = next(iter(headers.values())).get("parts", {})
    with BUILDING:
        pruned = {
            name: _load_transformer(folder / name, index, name, header, resident, progress)
            for name, header in headers.items()
        }
        try:
            return _assemble(folder, index, pruned, parts, dtype).to(device)
        except Exception as error:  # tokenizers raise no other kind
            raise UserError(f"{folder} could not be loaded ({first_sentence(error)}); pack it again.") from error


def _check_memory(folder: Path, headers: Mapping[str, Mapping], resident: bool) -> None:
    """Refuse what the machine cannot hold, before anything is made.

    Raises:
        UserError: that.
    """
    import psutil

    needs = sum((resident_bytes if resident else dense_bytes)(header) for header in headers.values())
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    if needs > free:
        way = "close other programs" if resident else "load it with resident=True, or close other programs"
        raise UserError(f"{folder} needs {needs / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; {way}.")


def _assemble(folder: Path, index: dict, pruned: dict, parts: Mapping, dtype: torch.dtype | None) -> DiffusionPipeline:
    import diffusers

    # DiffusionPipeline itself would look for the files of parts that a pipeline may be without, also of those given.
    own = getattr(diffusers, str(index.get("_class_name")), diffusers.DiffusionPipeline)
    kinds = {name: DTYPES[kind] for name, kind in parts.items() if isinstance(kind, str) and kind in DTYPES}
    kinds["default"] = next(iter(pruned.values())).dtype
    pipeline = own.from_pretrained(folder, dtype=kinds, use_safetensors=True, **pruned)
    if dtype is not None:
        pipeline.to(dtype)
    return pipeline


def _load_transformer(
    folder: Path, index: dict, name: str, header: Mapping, resident: bool, progress: Progress | None
) -> nn.Module:
    transformer = _empty(folder, index, name, len(header["tensors"]))
    wanted = transformer.state_dict()
    missing = sorted(wanted.keys() - header["tensors"].keys()) + sorted(header["tensors"].keys() - wanted.keys())
    if missing:
        raise UserError(f"{folder} does not fit its config.json at {missing[0][:200]}; {_AGAIN}")
    for key, entry in header["tensors"].items():
        if tuple(entry["shape"]) != tuple(wanted[key].shape):
            raise UserError(f"{key} in {folder} has another shape than its config.json asks for; pack it again.")
    layers = {f"{path}.weight": module for path, module in transformer.named_modules() if type(module) in RESIDENT}

    def read(packed: PackedTensor) -> Tensor | tuple[PackedMask, Tensor]:
        if resident and packed.name in layers and packed.entry.get("mask"):
            return unpack_mask(packed), unpack_values(packed)
        return unpack_tensor(packed)

    scratch = Scratch()
    for key, value in read_packed(folder, header, read, progress=progress):
        if isinstance(value, Tensor):
            _put(transformer, key, value)
        else:
            make_resident(layers[key], *value, scratch)
    return transformer.eval().requires_grad_(False)


def _empty(folder: Path, index: dict, name: str, tensors: int) -> nn.Module:
    """The transformer without weights.

    Raises:
        UserError: an index or a configuration that names none, or one of more blocks than the header has tensors.
    """
    import diffusers
    from accelerate import init_empty_weights

    if not is_denoiser(name) or not component(index, name):
        raise UserError(f"{folder.parent / INDEX} names no {name}; pack the model again.")
    kind = getattr(diffusers, index[name][1], None)
    if not isinstance(kind, type) or not issubclass(kind, diffusers.ModelMixin):
        raise UserError(f"{folder.parent / INDEX} names {brief(index[name][1])}, which is no transformer; {_AGAIN}")
    try:
        config = kind.load_config(folder)
        for key, value in config.items():
            if _BLOCKS.fullmatch(key) and isinstance(value, int) and value > tensors:
                raise UserError(
                    f"{folder} does not fit its config.json, which asks for {brief(value)} blocks; {_AGAIN}"
                )
        with init_empty_weights(include_buffers=False):
            return kind.from_config(config)
    except UserError:
        raise
    except Exception as error:  # whatever a class of diffusers makes of a configuration
        raise UserError(f"{folder / 'config.json'} makes no transformer ({first_sentence(error)}); {_AGAIN}") from error


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
