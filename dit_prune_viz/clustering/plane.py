"""The weight–activation plane: where redundant and sensitive units lie apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.clustering.units import check_unit
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.float64 import float64_capable


def plane(weight: Tensor, norm: Tensor, unit: str) -> np.ndarray:
    """log10 of weight magnitude and of activation norm for every unit of a layer: float32 (units, 2).

    weight is (d_out, d_in), norm holds ‖X_j‖₂ of the inputs (d_in,). Magnitude is the ℓ2 norm of the unit's row or
    column, or |W_ij|. The activation norm is ‖X_j‖₂ of the unit's input; for a row it is the norm of its output under
    independent inputs, sqrt(Σ_j W_ij²‖X_j‖²). Zeros are drawn at the smallest positive value of their axis.
    Single weights are in row-major order. UserError for an unknown unit, mismatched shapes, NaN or infinite values.
    """
    weight = float64_capable(weight)
    if weight.ndim != 2 or norm.shape != weight.shape[1:]:
        raise UserError(
            f"Weights of shape {tuple(weight.shape)} and activation norms of shape {tuple(norm.shape)} do not belong "
            "together; calibrate the model that is loaded."
        )
    norm = norm.detach().to(weight.device)
    if check_unit(unit) == "weight":
        size = weight.float().abs().flatten()
        activation = norm.float().expand(weight.shape).flatten()
    else:
        square = weight.double().square()
        size = square.sum(1 if unit == "row" else 0).sqrt()
        activation = (square @ norm.double().square()).sqrt() if unit == "row" else norm
    return torch.stack([log_floored(size), log_floored(activation)], dim=1).cpu().numpy()


def log_floored(values: Tensor) -> Tensor:
    """log10 in float32, zeros at the smallest positive value (all 0 where there is none). UserError: NaN, infinite."""
    smallest = torch.where(values > 0, values, torch.inf).amin()
    if not torch.isfinite(values).all():
        raise UserError(
            "Weights or activation norms hold NaN or infinite values; calibrate again in float32 or bfloat16."
        )
    if not torch.isfinite(smallest):
        return torch.zeros_like(values, dtype=torch.float32)
    return values.clamp(min=smallest).log10().float()
