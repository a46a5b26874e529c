"""Channel profiles: weight magnitude and activation norms over the timesteps, as features for PCA and UMAP."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.clustering.plane import log_floored
from dit_prune_viz.clustering.units import check_unit
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.float64 import float64_capable


def profiles(weight: Tensor, norm_bins: Tensor, unit: str, *, chosen: np.ndarray | None = None) -> np.ndarray:
    """Features of every unit, float32 (units, 1 + bins): log10 weight magnitude, then log10 activation norm per bin.

    weight is (d_out, d_in), norm_bins holds ‖X_j‖₂ per timestep bin (bins, d_in); both coordinates mean what they mean
    in `plane`. `chosen` are the indices of the units wanted, for layers with millions of single weights. A bin without
    inputs gives a constant feature. UserError for an unknown unit, mismatched shapes, NaN or infinite values.
    """
    weight = float64_capable(weight)
    norm_bins = norm_bins.detach().to(weight.device)
    if weight.ndim != 2 or norm_bins.ndim != 2 or norm_bins.shape[1] != weight.shape[1]:
        raise UserError(
            f"Weights of shape {tuple(weight.shape)} and activation norms of shape {tuple(norm_bins.shape)} do not "
            "belong together; calibrate the model that is loaded."
        )
    pick = slice(None) if chosen is None else torch.as_tensor(np.array(chosen), device=weight.device)
    if check_unit(unit) == "weight":
        columns = torch.arange(weight.numel(), device=weight.device)[pick] % weight.shape[1]
        features = [weight.float().abs().flatten()[pick], *(norms.float()[columns] for norms in norm_bins)]
    elif unit == "column":
        features = [weight.double().square().sum(0).sqrt()[pick], *norm_bins[:, pick]]
    else:
        square = weight.double().square()[pick]
        features = [square.sum(1).sqrt(), *(square @ norm_bins.double().square().T).sqrt().T]
    return torch.stack([log_floored(feature) for feature in features], dim=1).cpu().numpy()
