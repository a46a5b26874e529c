"""Numbers per layer that the map shows, worked out once per calibration and kept in the session."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.pipelines.model import Model


@dataclass(frozen=True)
class LayerStatistics:
    """weight_scale: root mean square of the weights; activation_norm: that of ‖X_j‖₂ over input channels."""

    weight_scale: float
    activation_norm: float

    @property
    def ratio(self) -> float:
        """Activation norm per weight scale; 0 for a layer without weight."""
        return self.activation_norm / self.weight_scale if self.weight_scale else 0.0


def layer_statistics(model: Model, calibration: Calibration) -> dict[str, LayerStatistics]:
    return {
        layer.name: LayerStatistics(_rms(model.weight(layer.name)), _rms(calibration.norm(layer.name)))
        for layer in model.layers
    }


def activation_norm_at(calibration: Calibration, layer: str, bin: int) -> float:
    """`activation_norm` if every token had been watched in one timestep bin; 0 where none was.

    Scaled to the tokens of all bins, so that bins compare with each other and with the norm over all of them.
    """
    squares, tokens = calibration.sum_squares[layer][bin], calibration.tokens[layer]
    seen = int(tokens[bin])
    return float(squares.mean() * int(tokens.sum()) / seen) ** 0.5 if seen else 0.0


def _rms(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().float()) / max(1, values.numel()) ** 0.5)
