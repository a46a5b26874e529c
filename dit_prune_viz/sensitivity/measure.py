"""Prune every layer alone and measure what becomes of the transformer's output."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, held_out_inputs, run_call
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.running import pruned
from dit_prune_viz.methods.saliency.base import needed_statistic
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pruning.build_masks import build_mask
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.sensitivity.result import Sensitivity

if TYPE_CHECKING:
    from dit_prune_viz.calibration.result import Calibration
    from dit_prune_viz.pipelines.model import Model

Ranking = Callable[[str, float], PackedMask]
"""The mask of one layer at a sparsity."""

_CACHE: OrderedDict[tuple, float] = OrderedDict()
_CACHED = 100_000


def measure_sensitivity(
    model: Model,
    calibration: Calibration,
    ranking: PruningPlan | Ranking,
    *,
    sparsities: Sequence[float] = (0.3, 0.5, 0.7),
    inputs: int = 8,
    norm: Callable[[str], Tensor] | None = None,
    inverse_hessian: Callable[[str], Tensor] | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune every layer alone at every sparsity; relative squared error of the transformer's output on held-out inputs.

    The inputs come from prompts and noise the calibration has not seen (`held_out_inputs`), at timesteps over the whole
    range. One forward pass over all of them for each layer and sparsity. Figures are kept by content (weights, inputs,
    mask), so that a second call, or one after a cancelled one, only measures what is new.

    Args:
        model: the calibrated model, dense; its lock is held meanwhile.
        calibration: gives norms, mean squares, and what not to take as held-out inputs.
        ranking: a plan, whose method and granularity say what a layer loses at a sparsity (its clusters and counts are
            left aside); or a function that gives the mask of a layer at a sparsity.
        sparsities: 0–1.
        inputs: how many held-out transformer inputs.
        norm: ‖X_j‖₂ (d_in,) of a layer, where the plan ranks by others than the calibration's over all timesteps.
        inverse_hessian: the diagonal of H⁻¹ (d_in,) of a layer, where the plan's method ranks by it.
        progress: called before every layer, with the time left; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, a calibration of another model, too little memory.
    """
    levels = tuple(sorted({check_sparsity(sparsity) for sparsity in sparsities}))
    if not levels:
        raise UserError("Sensitivity needs at least one sparsity to prune the layers at.")
    start = time.perf_counter()
    mask_of = _ranking(model, ranking, norm or calibration.norm, inverse_hessian)
    held_out = _HeldOut(model, calibration, inputs)
    errors: dict[str, tuple[float, ...]] = {}
    damages: dict[str, tuple[float, ...]] = {}
    try:
        for done, layer in enumerate(model.layers):
            if progress is not None:
                left = _time_left(held_out.seconds, held_out.measured, (len(model.layers) - done) * len(levels))
                progress(done, len(model.layers), f"Sensitivity of {layer.name}{left}")
            masks = [mask_of(layer.name, level) for level in levels]
            weight, mean_square = model.weight(layer.name), calibration.mean_square(layer.name)
            damages[layer.name] = tuple(damage(weight, mean_square, mask.unpack()) for mask in masks)
            errors[layer.name] = tuple(held_out.error(layer.name, mask) for mask in masks)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise UserError(f"Measuring sensitivity does not fit into the memory of {model.device}.") from error
        raise
    if progress is not None:
        progress(len(model.layers), len(model.layers), "Sensitivity is measured")
    return Sensitivity(levels, errors, damages, held_out.samples, time.perf_counter() - start)


class _HeldOut:
    """The held-out inputs, drawn when the first figure is not known yet, and the dense outputs for them."""

    def __init__(self, model: Model, calibration: Calibration, samples: int):
        self.samples = samples
        self.seconds, self.measured = 0.0, 0
        self._model, self._calibration = model, calibration
        self._inputs: RecordedInputs | None = None
        self._dense: list[list[Tensor]] = []
        draw = calibration.draw
        self._key = (model.identity, str(model.dtype), calibration.seed, calibration.steps, samples)
        self._key += () if draw is None else (draw.prompts,)

    def error(self, layer: str, mask: PackedMask) -> float:
        """Relative squared error of the output with this one layer pruned."""
        if not mask.removed:
            return 0.0
        key = (*self._key, layer, mask.digest)
        if key not in _CACHE:
            _CACHE[key] = self._measure(layer, mask)
            if len(_CACHE) > _CACHED:
                _CACHE.popitem(last=False)
        return _CACHE[key]

    @torch.no_grad()
    def _measure(self, layer: str, mask: PackedMask) -> float:
        model = self._model
        with model.lock:
            if self._inputs is None:
                self._inputs = held_out_inputs(model, self._calibration, self.samples)
                self._dense = [run_call(model, call) for call in self._inputs.calls]
            start = time.perf_counter()
            lost = energy = 0.0
            with pruned(model, {layer: mask}):
                for call, dense in zip(self._inputs.calls, self._dense, strict=True):
                    for output, expected in zip(run_call(model, call), dense, strict=True):
                        lost += float((output.float() - expected.float()).square().sum())
                        energy += float(expected.float().square().sum())
        self.seconds += time.perf_counter() - start
        self.measured += 1
        return lost / energy if energy else 0.0


def _ranking(
    model: Model,
    ranking: PruningPlan | Ranking,
    norm: Callable[[str], Tensor],
    inverse_hessian: Callable[[str], Tensor] | None,
) -> Ranking:
    if not isinstance(ranking, PruningPlan):
        return ranking
    statistic = needed_statistic(ranking.saliency, norm, inverse_hessian)

    def mask(name: str, sparsity: float) -> PackedMask:
        layer = replace(ranking.layer(name), sparsity=sparsity, clusters=None, count=None)
        return pack(build_mask(layer, ranking.saliency, model.weight(name), statistic(name)))

    return mask


def _time_left(seconds: float, measured: int, left: int) -> str:
    if not measured:
        return ""
    remaining = seconds / measured * left
    return f", about {remaining:.0f} s left" if remaining < 90 else f", about {remaining / 60:.0f} min left"
