"""Numbers per layer that the map shows: of the weights alone, and with the inputs' norms once these are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.errors import Progress
from dit_prune_viz.pipelines.model import Model

_SAMPLE = 1 << 14
"""Weights of a layer that `magnitude_damage` looks at, evenly spaced."""


@dataclass(frozen=True)
class LayerStatistics:
    """What is known of one layer.

    Attributes:
        weight_scale: root mean square of the weights.
        magnitude_damage: the share of Σ W² that the half with the smallest magnitudes holds, told from a sample of the
            weights; what pruning costs if all inputs are alike.
        activation_norm: root mean square of ‖X_j‖₂ over input channels; None before the model is calibrated.
    """

    weight_scale: float
    magnitude_damage: float
    activation_norm: float | None = None

    @property
    def ratio(self) -> float:
        """Activation norm per weight scale; 0 for a layer without weight."""
        return self.activation_norm / self.weight_scale if self.weight_scale else 0.0


def weight_statistics(model: Model, progress: Progress | None = None) -> dict[str, LayerStatistics]:
    """What the weights alone tell of every layer: one pass over them, kept in the model's cache.

    Args:
        model: only read.
        progress: called before every layer; may raise `Cancelled`.
    """

    def look() -> dict[str, LayerStatistics]:
        found = {}
        for done, (layer, weight) in enumerate(model.weights()):
            if progress:
                progress(done, len(model.layers), "Looking at the weights")
            found[layer.name] = LayerStatistics(_rms(weight), _magnitude_damage(weight))
        return found

    # The same pipeline may be listed with other layers, so that their names are part of the key.
    return model.cache.get(("weight statistics", model.also_prune), look)


def layer_statistics(model: Model, calibration: Calibration) -> dict[str, LayerStatistics]:
    """What is known of every layer of a calibrated model."""
    known = weight_statistics(model)
    return {name: replace(one, activation_norm=_rms(calibration.norm(name))) for name, one in known.items()}


def activation_norm_at(calibration: Calibration, layer: str, bin: int) -> float:
    """`activation_norm` if every token had been watched in one timestep bin; 0 where none was.

    Scaled to the tokens of all bins, so that bins compare with each other and with the norm over all of them.
    """
    squares, tokens = calibration.sum_squares[layer][bin], calibration.tokens[layer]
    seen = int(tokens[bin])
    return float(squares.mean() * int(tokens.sum()) / seen) ** 0.5 if seen else 0.0


def _rms(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().float()) / max(1, values.numel()) ** 0.5)


def _magnitude_damage(weight: Tensor) -> float:
    step = -(-weight.numel() // _SAMPLE)
    while step > 1 and math.gcd(step, weight.shape[1]) != 1:  # no column is left out
        step += 1
    squares = weight.detach().reshape(-1)[::step].double().square()
    smallest = squares.topk(len(squares) // 2, largest=False, sorted=False).values
    return float(smallest.sum() / squares.sum().clamp_min(torch.finfo(torch.float64).tiny))
