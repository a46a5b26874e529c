"""What every saliency has in common: the protocol, the power product, and the check of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.float64 import float64_capable


class Saliency(Protocol):
    """Gives every weight of a Linear layer a score; small scores are pruned first."""

    @property
    def name(self) -> str:
        """The method's name, as in `METHODS`, or one that shows its exponents."""

    @property
    def statistic(self) -> str:
        """What `score` wants to know of every input: one of STATISTICS."""

    def score(self, weight: Tensor, statistic: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32, from weights (d_out, d_in) and that statistic of the inputs (d_in,)."""


STATISTICS = ("norm", "inverse_hessian")
"""The input norms ‖X_j‖₂, or the diagonal of the inverse Hessian H⁻¹; both (d_in,)."""


def needed_statistic(
    saliency: Saliency, norm: Callable[[str], Tensor], inverse_hessian: Callable[[str], Tensor] | None
) -> Callable[[str], Tensor]:
    """The one of the two that `saliency` ranks by. UserError if that is the inverse Hessian and there is none."""
    if getattr(saliency, "statistic", "norm") != "inverse_hessian":
        return norm
    if inverse_hessian is None:
        raise UserError(f"The method {saliency.name} needs the Hessians of the layers; collect them, or take another.")
    return inverse_hessian


def check_fit(weight: Tensor, statistic: Tensor) -> None:
    """UserError unless weight is (d_out, d_in) and statistic (d_in,)."""
    if weight.ndim != 2 or statistic.shape != weight.shape[1:]:
        raise UserError(
            f"Weights of shape {tuple(weight.shape)} and activation norms of shape {tuple(statistic.shape)} do not "
            "belong together; calibrate the model that is loaded."
        )


def power_product(weight: Tensor, norm: Tensor, m: float, n: float) -> Tensor:
    """|W_ij|^m · ‖X_j‖₂^n in float32, whatever the dtype of the weights, on their device (see `float64_capable`).

    weight is (d_out, d_in), norm is (d_in,); the inputs are left as they are. UserError if the shapes do not match.
    """
    check_fit(weight, norm)
    scores = float64_capable(weight).to(torch.float32).abs().pow_(m)
    if n:
        scores.mul_(norm.detach().to(scores).pow(n))
    return scores


def layer_scores(saliency: Saliency, name: str, weight: Tensor, statistic: Tensor) -> Tensor:
    """The scores (d_out, d_in) of the layer called `name`. UserError if any of them is NaN or infinite."""
    scores = saliency.score(weight, statistic)
    if torch.isfinite(scores.sum(dtype=torch.float64)):
        return scores
    if not torch.isfinite(weight.detach()).all():
        raise UserError(f"Layer {name} has NaN or infinite weights; load an intact model, or another dtype of it.")
    if not torch.isfinite(statistic).all():
        what = "activation norms" if getattr(saliency, "statistic", "norm") == "norm" else "inverse Hessian values"
        raise UserError(f"Layer {name} has NaN or infinite {what}; calibrate again, in float32 or bfloat16.")
    raise UserError(f"The saliencies of layer {name} exceed what float32 holds; choose smaller exponents m and n.")
