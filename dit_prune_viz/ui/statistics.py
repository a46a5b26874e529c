"""Numbers per layer that the map shows, worked out once per calibration and kept in the session."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.calibration import Calibration
from dit_prune_viz.pipelines import Model


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


def _rms(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().float()) / max(1, values.numel()) ** 0.5)
