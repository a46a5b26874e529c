"""How many bytes a transformer takes as it would be stored, dense, rounded or pruned."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.packed_size import packed_bytes, packed_sizes
from dit_prune_viz.export.pipeline_files import names_inside, transformers_of
from dit_prune_viz.export.weight_file import HALVES, fits
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.pruned_model import PrunedModel

LARGE = 500_000_000
"""Parameters above which a packed size is estimated: packing all of them takes minutes."""


def stored_bytes(pruned: PrunedModel, progress: Progress | None = None) -> int | None:
    """Bytes of a pruned model's transformers in the form in which a person would keep them.

    A model of which nothing is pruned and layers are rounded: their codes at their bits, their scales, and all other
    tensors as `dense_bytes` counts them. Any other: the packed format, estimated for large models.

    Args:
        pruned: only read.
        progress: called before every tensor; may raise `Cancelled`.

    Returns:
        The bytes; None where a model cannot be packed, such as one whose blocks stream.
    """
    if not pruned.report.removed:
        rounded = {name: layer.rounded.file_bytes for name, layer in pruned.layers.items() if layer.rounded}
        if rounded:
            return dense_bytes(pruned.model, rounded)
    try:
        if pruned.model.parameters > LARGE:
            return packed_sizes(pruned.model).estimate(pruned)
        return packed_bytes(pruned, progress)
    except UserError:
        return None


def dense_bytes(model: Model, instead: dict[str, int] | None = None) -> int:
    """Bytes of the dense transformers, each tensor in the narrowest precision that holds it without loss.

    A model in bfloat16 takes two bytes a parameter, also where it runs in float32.

    Args:
        model: only read.
        instead: layer → bytes that its weight takes.
    """
    instead = instead or {}
    total = sum(instead.values())
    for part, transformer in transformers_of(model.pipeline).items():
        known = names_inside(model.pipeline, part, instead)
        for key, tensor in transformer.state_dict().items():
            owner, _, last = key.rpartition(".")
            if last != "weight" or owner not in known:
                total += tensor.numel() * _width(tensor)
    return total


def _width(tensor: Tensor) -> int:
    """Bytes a value; float32 is often loaded from bfloat16 or float16."""
    if tensor.dtype == torch.float32 and not tensor.is_meta and any(fits(tensor, narrow) for narrow in HALVES):
        return HALVES[0].itemsize
    return tensor.element_size()
