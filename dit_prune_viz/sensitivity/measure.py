"""Prune every layer alone and measure what becomes of the transformer's output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, run_call
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import LONG_SECONDS
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.sensitivity.result import Sensitivity
from dit_prune_viz.sensitivity.stored import StoredFigures, place_of

Ranking = Callable[[str, Sequence[float]], Sequence[PackedMask]]
"""(layer, sparsities) → the layer's mask at each of them."""


def measure_sensitivity(
    statistics: Statistics,
    ranking: Ranking,
    *,
    sparsities: Sequence[float] = (0.5, 0.7, 0.9, 1.0),
    inputs: int = 8,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune every layer alone at every sparsity; relative squared error of the transformer's output on held-out inputs.

    The inputs come from prompts and noise the calibration has not seen (`held_out_inputs`), at timesteps over the whole
    range. One forward pass over all of them for each layer and sparsity. Figures are kept by content (inputs, mask) in
    the model's cache, and on disk where they took long, so that a second call, or one after a cancelled one, only
    measures what is new.

    Args:
        statistics: of the dense model; its lock is held meanwhile.
        ranking: the masks of one layer at some sparsities.
        sparsities: 0–1.
        inputs: how many held-out transformer inputs.
        progress: called before every layer, with the time left; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, a calibration of another model, too little memory.
    """
    levels = tuple(sorted({check_sparsity(sparsity) for sparsity in sparsities}))
    if not levels:
        raise UserError("Sensitivity needs at least one sparsity to prune the layers at.")
    start = time.perf_counter()
    model = statistics.model
    held_out = OutputError(statistics, inputs)
    errors: dict[str, tuple[float, ...]] = {}
    damages: dict[str, tuple[float, ...]] = {}
    try:
        with telling_of_memory(_too_large(model)):
            for done, layer in enumerate(model.layers):
                if progress is not None:
                    left = _time_left(held_out.seconds, held_out.measured, (len(model.layers) - done) * len(levels))
                    progress(done, len(model.layers), f"Sensitivity of {layer.name}{left}")
                masks = ranking(layer.name, levels)
                weight, mean_square = model.weight(layer.name), statistics.mean_square(layer.name)
                damages[layer.name] = tuple(damage(weight, mean_square, mask.unpack()) for mask in masks)
                errors[layer.name] = tuple(held_out.of({layer.name: mask}) for mask in masks)
    finally:
        held_out.keep()
    if progress is not None:
        progress(len(model.layers), len(model.layers), "Sensitivity is measured")
    return Sensitivity(levels, errors, damages, held_out.samples, time.perf_counter() - start)


class OutputError:
    """What masks do to the transformer's output on held-out inputs.

    The inputs are drawn when the first figure is not known yet, and the dense outputs for them computed once. Figures
    are kept by content, see `measure_sensitivity`.

    Args:
        statistics: of the dense model; its lock is held while something is measured.
        samples: how many held-out transformer inputs.
    """

    def __init__(self, statistics: Statistics, samples: int) -> None:
        self.samples = samples
        self.seconds, self.measured = 0.0, 0
        self._statistics, self._model = statistics, statistics.model
        self._inputs: RecordedInputs | None = None
        self._dense: list[Tensor] = []
        self._figures = StoredFigures(statistics, samples)

    def keep(self) -> None:
        """Keep what was measured on disk, if it took long."""
        if self.seconds > LONG_SECONDS:
            self._figures.keep()

    def of(self, masks: Mapping[str, PackedMask]) -> float:
        """Relative squared error Σ‖y'−y‖²/Σ‖y‖² of the output with these layers pruned and all others dense.

        Under classifier-free guidance y is what guidance makes of both halves of a step, a + g·(b − a). Pipelines
        differ in which half is the prompt's, so that both orders count.

        Raises:
            UserError: a calibration of another model, too little memory.
        """
        if not any(mask.removed for mask in masks.values()):
            return 0.0
        key = ("sensitivity", self._statistics.calibration.key, self.samples, *place_of(masks))
        with telling_of_memory(_too_large(self._model)):
            return self._model.cache.get(key, lambda: self._figures.get(masks, self._measure))

    @torch.no_grad()
    def _measure(self, masks: Mapping[str, PackedMask]) -> float:
        model = self._model
        with model.lock.hold(self._statistics.progress):
            if self._inputs is None:
                self._inputs = self._statistics.held_out(self.samples)
                self._dense = self._outputs()
            start = time.perf_counter()
            with running_pruned(model, {layer: PrunedLayer(mask) for layer, mask in masks.items()}):
                outputs = self._outputs()
            lost = sum(_energy(output - dense) for output, dense in zip(outputs, self._dense, strict=True))
            energy = sum(map(_energy, self._dense))
        self.seconds += time.perf_counter() - start
        self.measured += 1
        return lost / energy if energy else 0.0

    def _outputs(self) -> list[Tensor]:
        """What the transformer answers now to every input; under guidance what comes of both halves, in both orders."""
        places = [place for call in self._inputs.calls for place in call.places]
        outputs = [output.float() for call in self._inputs.calls for output in run_call(self._model, call)]
        halves: dict[tuple[int, int], list[Tensor]] = {}
        for (run, step, _), output in zip(places, outputs, strict=True):
            halves.setdefault((run, step), []).append(output)
        guidance = self._model.defaults.guidance_scale
        if guidance is None or any(len(pair) != 2 for pair in halves.values()):
            return outputs
        pairs = [pair for first, second in halves.values() for pair in ((first, second), (second, first))]
        return [first + guidance * (second - first) for first, second in pairs]


def _energy(output: Tensor) -> float:
    return float(output.square().sum())


def _too_large(model: Model) -> str:
    return f"Measuring sensitivity does not fit into the memory of {model.device}; load it with --placement stream."


def _time_left(seconds: float, measured: int, left: int) -> str:
    if not measured:
        return ""
    remaining = seconds / measured * left
    return f", about {remaining:.0f} s left" if remaining < 90 else f", about {remaining / 60:.0f} min left"
