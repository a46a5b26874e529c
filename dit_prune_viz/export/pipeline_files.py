"""Write all of a pipeline but its transformer, in diffusers' own format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dit_prune_viz.errors import Progress
from dit_prune_viz.export.part_files import clean_settings, save_part
from dit_prune_viz.export.weight_file import HALVES, fits
from dit_prune_viz.pipelines.denoisers import is_denoiser

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def write_parts(pipeline: DiffusionPipeline, folder: Path, progress: Progress | None = None) -> dict[str, str]:
    """Save a pipeline's index and every part but the transformers.

    Parts in float32 whose weights fit bfloat16 or float16 exactly are stored so: they were loaded from half the bytes.

    Args:
        pipeline: only read.
        folder: exists.
        progress: called before every part; may raise `Cancelled`.

    Returns:
        part → precision it runs in, such as "float32".
    """
    parts = _others(pipeline)
    for done, (name, part) in enumerate(parts.items()):
        if progress:
            progress(done, len(parts), f"Writing {name}")
        save_part(part, folder / name)
        if isinstance(part, nn.Module):
            for file in (folder / name).glob("*.safetensors"):
                _narrow(file)
    pipeline.save_config(folder)
    clean_settings(pipeline, folder)
    return precisions_of(pipeline)


def precisions_of(pipeline: DiffusionPipeline) -> dict[str, str]:
    """Part → precision it runs in, such as "float32"; the transformers and what has no weights are left out."""
    modules = {name: part for name, part in _others(pipeline).items() if isinstance(part, nn.Module)}
    return {name: str(part.dtype).removeprefix("torch.") for name, part in modules.items()}


def _others(pipeline: DiffusionPipeline) -> dict[str, object]:
    """All that is saved of a pipeline but its transformers."""
    pruned = transformers_of(pipeline)
    parts = {name: part for name, part in pipeline.components.items() if name not in pruned}
    return {name: part for name, part in parts.items() if part is not None and hasattr(part, "save_pretrained")}


def transformers_of(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    """The parts that are pruned, by name."""
    return {name: part for name, part in pipeline.components.items() if is_denoiser(name) and part is not None}


def names_inside(pipeline: DiffusionPipeline, part: str, layers: Iterable[str]) -> dict[str, str]:
    """Module path inside one of a pipeline's transformers → name of the layer, of those layers that are there.

    Of two transformers the layers are named after theirs: "transformer_2.blocks.0".
    """
    start = f"{part}." if len(transformers_of(pipeline)) > 1 else ""
    return {name.removeprefix(start): name for name in layers if name.startswith(start)}


def parts_bytes(pipeline: DiffusionPipeline) -> int:
    """Bytes that `write_parts` writes at most, tokenizers apart."""
    pruned = transformers_of(pipeline)
    modules = [part for name, part in pipeline.components.items() if isinstance(part, nn.Module) and name not in pruned]
    return sum(tensor.nbytes for module in modules for tensor in module.state_dict().values())


def _narrow(file: Path) -> None:
    tensors = load_file(file)
    wide = {name: tensor for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    for dtype in HALVES:
        if wide and all(fits(tensor, dtype) for tensor in wide.values()):
            save_file(tensors | {name: tensor.to(dtype) for name, tensor in wide.items()}, file, {"format": "pt"})
            return
