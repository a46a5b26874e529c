"""Pack a pruned model: a folder that is smaller than the dense one, and gives back the same weights bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.about import recipe_of
from dit_prune_viz.export.folders import new_folder
from dit_prune_viz.export.packed_files import Job, write_packed
from dit_prune_viz.export.packed_tensor import PackedTensor, pack_rounded, pack_tensor, pack_values
from dit_prune_viz.export.part_files import own_files, write_config, write_defaults
from dit_prune_viz.export.pipeline_files import names_inside, parts_bytes, transformers_of, write_parts
from dit_prune_viz.export.sums import write_sums
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.rounding import Rounded, round_to_nearest
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pruning.pruned_model import PrunedModel

EXACT, INT8 = "exact", "int8"
VALUES = (EXACT, INT8)
"""How kept weights are stored: every bit of them, or rounded to eight bits."""

GROUP = None
"""Inputs of a row that share a scale in int8: all of them."""

_SPARE = 64 << 20
"""Room for tokenizers and configurations."""


def pack(
    pruned: PrunedModel,
    folder: str | Path,
    *,
    values: str = EXACT,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a pruned model as a packed folder, which `load_packed` opens again.

    Kept weights are stored without loss, see assets/docs/packed-format.md; so are the transformer's other tensors. The
    pipeline's other parts are saved as diffusers saves them.

    Args:
        pruned: only read.
        folder: to be made; complete or not there at all.
        values: "exact", or "int8" to round the kept weights of pruned layers to eight bits, which loses a little. What
            the recipe has rounded already is stored as it is either way.
        overwrite: whether it may replace one that is there.
        progress: called before every tensor; may raise `Cancelled`.

    Returns:
        The folder.

    Raises:
        UserError: it exists, cannot be written to, or the disk is too small, unknown values, or a precision that is not
            packed.
    """
    sources = packings(pruned, values)
    pipeline = pruned.model.pipeline
    needs = packed_bytes_at_most(pruned) + parts_bytes(pipeline) + _SPARE
    with new_folder(folder, needs=needs, overwrite=overwrite, keep=own_files(pruned.model)) as new:
        precisions = write_parts(pipeline, new, progress)
        for name, source in sources.items():
            write_config(source.transformer, new / name)
            source.write(new / name, {"parts": precisions}, progress)
        write_defaults(pruned.model, new)
        write_sums(new)
    return Path(folder)


@dataclass(frozen=True, eq=False)
class Packing:
    """One transformer of a pruned model that is to be packed.

    Attributes:
        transformer: its dense module, only read.
        names: module path inside it → name of the pruned layer.
        pruned: the model.
        values: as in `pack`.
    """

    transformer: nn.Module
    names: Mapping[str, str]
    pruned: PrunedModel
    values: str = EXACT

    def write(self, folder: Path | None, about: Mapping[str, object], progress: Progress | None = None) -> int:
        """Pack it into a folder; None only counts the bytes, which are returned, those of its config.json apart.

        Args:
            folder: exists.
            about: further entries of the header.
            progress: as in `pack`.
        """
        keys, resting = list(self.transformer.state_dict()), Resting(self.transformer)
        about = {
            "recipe": recipe_of(self.pruned).to_dict(),
            "model": self.pruned.model.name,
            "fingerprint": self.pruned.model.fingerprint,
            "precision": _name(self.transformer.dtype),
            **about,
        }
        jobs = (Job(key, resting(key), self.layer(key)) for key in keys)
        return write_packed(jobs, self._pack, folder, about, total=len(keys), progress=progress)

    def layer(self, key: str) -> PrunedLayer | None:
        """The pruned layer that a tensor of the state dict belongs to."""
        name = self.names.get(key.rpartition(".")[0])
        return None if name is None else self.pruned.layers[name]

    def _pack(self, job: Job) -> PackedTensor:
        layer, last = job.layer, job.name.rpartition(".")[2]
        dtype, shape = job.tensor.dtype, tuple(job.tensor.shape)
        if layer is None or last not in ("weight", "bias"):
            return pack_tensor(job.tensor.detach().cpu())
        if last == "bias":
            return pack_tensor((job.tensor.detach() if layer.bias is None else layer.bias.to(dtype)).cpu())
        if layer.rounded or self.values == INT8:
            return pack_rounded((layer.rounded or _round(job.tensor, layer)).to("cpu"), shape, dtype)
        mask = layer.mask.to("cpu")
        if layer.new is not None:
            return pack_values(layer.new.cpu().to(dtype), shape, mask)
        return pack_tensor(job.tensor.detach().cpu(), mask)


def packings(pruned: PrunedModel, values: str = EXACT) -> dict[str, Packing]:
    """Part of the pipeline → what packs it.

    Raises:
        UserError: unknown values.
    """
    if values not in VALUES:
        raise UserError(f"Kept weights are stored {' or '.join(VALUES)}, not {brief(values)}.")
    pipeline = pruned.model.pipeline
    return {
        part: Packing(transformer, names_inside(pipeline, part, pruned.layers), pruned, values)
        for part, transformer in transformers_of(pipeline).items()
    }


def packed_bytes_at_most(pruned: PrunedModel) -> int:
    """Bytes of the transformers' kept values and masks as they are in memory: what packing never exceeds by much."""
    total = 0
    for source in packings(pruned).values():
        for key, tensor in source.transformer.state_dict().items():
            layer = source.layer(key) if key.endswith(".weight") else None
            if layer is None:
                total += tensor.nbytes
            else:
                total += layer.mask.kept * tensor.element_size() + layer.mask.bits.nbytes
    return total


def _round(weight: Tensor, layer: PrunedLayer) -> Rounded:
    """A pruned layer's kept weights in eight bits."""
    table = weight.detach().reshape(layer.mask.shape)
    if layer.new is not None:
        table = layer.dense(table)
    return round_to_nearest(table, bits=8, group=GROUP, mask=layer.mask)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
