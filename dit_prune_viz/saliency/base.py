"""What every saliency has in common: the protocol, the power product, and the check of its result."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.saliency.exact import exact


class Saliency(Protocol):
    """Gives every weight of a Linear layer a score; small scores are pruned first."""

    @property
    def name(self) -> str:
        """The method's name, as in `METHODS`, or one that shows its exponents."""

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32, from weights (d_out, d_in) and input norms ‖X_j‖₂ (d_in,)."""


def power_product(weight: Tensor, norm: Tensor, m: float, n: float) -> Tensor:
    """|W_ij|^m · ‖X_j‖₂^n in float32, whatever the dtype of the weights, on their device (see `exact`).

    weight is (d_out, d_in), norm is (d_in,); the inputs are left as they are. UserError if the shapes do not match.
    """
    if weight.ndim != 2 or norm.shape != weight.shape[1:]:
        raise UserError(
            f"Weights of shape {tuple(weight.shape)} and activation norms of shape {tuple(norm.shape)} do not belong "
            "together; calibrate the model that is loaded."
        )
    scores = exact(weight).to(torch.float32).abs().pow_(m)
    if n:
        scores.mul_(norm.detach().to(scores).pow(n))
    return scores


def layer_scores(saliency: Saliency, name: str, weight: Tensor, norm: Tensor) -> Tensor:
    """The scores (d_out, d_in) of the layer called `name`. UserError if any of them is NaN or infinite."""
    scores = saliency.score(weight, norm)
    if torch.isfinite(scores.sum(dtype=torch.float64)):
        return scores
    if not torch.isfinite(weight.detach()).all():
        raise UserError(f"Layer {name} has NaN or infinite weights; load an intact model, or another dtype of it.")
    if not torch.isfinite(norm).all():
        raise UserError(f"Layer {name} has NaN or infinite activation norms; calibrate again, in float32 or bfloat16.")
    raise UserError(f"The saliencies of layer {name} exceed what float32 holds; choose smaller exponents m and n.")
