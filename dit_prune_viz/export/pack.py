"""Pack a pruned model: a folder that is smaller than the dense one, and gives back the same weights bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from dit_prune_viz.errors import Progress
from dit_prune_viz.export.folders import new_folder
from dit_prune_viz.export.packed_files import Job, write_packed
from dit_prune_viz.export.packed_tensor import PackedTensor, pack_tensor, pack_values
from dit_prune_viz.export.part_files import own_files, write_config, write_defaults
from dit_prune_viz.export.pipeline_files import parts_bytes, transformers_of, write_parts
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pruning.pruned_model import PrunedModel

_SPARE = 64 << 20
"""Room for tokenizers and configurations."""


def pack(
    pruned: PrunedModel,
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a pruned model as a packed folder, which `load_packed` opens again.

    Kept weights are stored without loss, see assets/docs/packed-format.md; so are the transformer's other tensors. The
    pipeline's other parts are saved as diffusers saves them.

    Args:
        pruned: only read.
        folder: to be made; complete or not there at all.
        overwrite: whether it may replace one that is there.
        progress: called before every tensor; may raise `Cancelled`.

    Returns:
        The folder.

    Raises:
        UserError: it exists, cannot be written to, or the disk is too small.
    """
    pipeline = pruned.model.pipeline
    needs = packed_bytes_at_most(pruned) + parts_bytes(pipeline) + _SPARE
    with new_folder(folder, needs=needs, overwrite=overwrite, keep=own_files(pruned.model)) as new:
        precisions = write_parts(pipeline, new, progress)
        for name, transformer in transformers_of(pipeline).items():
            write_config(transformer, new / name)
            layers = _layers_of(pruned, name)
            state = transformer.state_dict()
            about = {
                "recipe": json.loads(pruned.recipe.to_json()),
                "model": pruned.model.name,
                "fingerprint": pruned.model.fingerprint,
                "precision": str(transformer.dtype).removeprefix("torch."),
                "parts": precisions,
            }
            jobs = _jobs(Resting(transformer), state, layers)
            write_packed(
                jobs, lambda job, own=layers: _pack(job, own), new / name, about, total=len(state), progress=progress
            )
        write_defaults(pruned.model, new)
    return Path(folder)


def packed_bytes_at_most(pruned: PrunedModel) -> int:
    """Bytes of the transformers' kept values and masks as they are in memory: what packing never exceeds by much."""
    total = 0
    for name, transformer in transformers_of(pruned.model.pipeline).items():
        layers = _layers_of(pruned, name)
        for key, tensor in transformer.state_dict().items():
            layer = layers.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
            if layer is None:
                total += tensor.nbytes
            else:
                total += layer.mask.kept * tensor.element_size() + layer.mask.bits.nbytes
    return total


def _layers_of(pruned: PrunedModel, transformer: str) -> dict[str, PrunedLayer]:
    """Module path inside one transformer → pruned layer."""
    if len(transformers_of(pruned.model.pipeline)) == 1:
        return dict(pruned.layers)
    start = f"{transformer}."
    return {name.removeprefix(start): layer for name, layer in pruned.layers.items() if name.startswith(start)}


def _jobs(resting: Resting, names: Iterable[str], layers: dict[str, PrunedLayer]) -> Iterator[Job]:
    for key in names:
        layer = layers.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
        yield Job(key, resting(key), layer and layer.mask)


def _pack(job: Job, layers: dict[str, PrunedLayer]) -> PackedTensor:
    owner, _, last = job.name.rpartition(".")
    layer = layers.get(owner)
    dtype = job.tensor.dtype
    if layer is not None and last == "weight" and layer.values is not None:
        return pack_values(layer.values.cpu().to(dtype), tuple(job.tensor.shape), layer.mask.to("cpu"))
    if layer is not None and last == "bias" and layer.bias is not None:
        return pack_tensor(layer.bias.cpu().to(dtype))
    return pack_tensor(job.tensor.detach().cpu(), job.mask and job.mask.to("cpu"))
