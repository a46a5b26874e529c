"""The work that runs the whole model: drawing and calibrating. Here it runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import BatchStep, stream_batch
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.prune import calibrate_for
from dit_prune_viz.pruning.recipe import Recipe


class ModelWork:
    """Where such work is done; `lent_gpu.LentGpu` does it in a process that has a GPU."""

    def stream(
        self,
        model: Model,
        requests: tuple[Request, ...],
        *,
        layers: Mapping[str, PrunedLayer],
        preview_every: int,
        told: Callable[[int], None],
    ) -> Generator[BatchStep, None, None]:
        """As `stream_batch`."""
        return stream_batch(model, requests, layers=layers, preview_every=preview_every, told=told)

    def calibrate(
        self, model: Model, recipe: Recipe, progress: Progress | None = None, disk: DiskCache | None = None
    ) -> Calibration:
        """As `calibrate_for`."""
        return calibrate_for(model, recipe, progress, disk)
