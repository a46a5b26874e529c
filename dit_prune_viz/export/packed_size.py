"""Bytes of the packed format without writing it."""

from __future__ import annotations

from dit_prune_viz.errors import Progress
from dit_prune_viz.export.pack import _jobs, _layers_of, _pack
from dit_prune_viz.export.pipeline_files import transformers_of
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pruning.pruned_model import PrunedModel


def packed_bytes(pruned: PrunedModel, progress: Progress | None = None) -> int:
    """Bytes of the pruned transformers' packed tensors; `progress` is called before every tensor, and may raise."""
    total = 0
    for name, transformer in transformers_of(pruned.model.pipeline).items():
        layers, state = _layers_of(pruned, name), transformer.state_dict()
        for done, job in enumerate(_jobs(Resting(transformer), state, layers)):
            if progress:
                progress(done, len(state), f"Weighing {job.name}")
            total += _pack(job, layers).nbytes
    return total


class PackedSizes:
    """Packed sizes of one model's pruned forms."""

    def __init__(self, model: object) -> None:
        self._model = model

    def estimate(self, pruned: PrunedModel) -> int:
        """Bytes of a pruned form."""
        return packed_bytes(pruned)
