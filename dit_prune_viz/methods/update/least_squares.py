"""The best weights a mask allows: least squares on the layer's output, all rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.calibration.damped_inverse import check_damping, check_layer, damped, inverse, saw_only_zeros
from dit_prune_viz.checks import whole
from dit_prune_viz.methods.problem import LayerProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.update.base import Update

_SMALL = 1e-6


@register
@dataclass(frozen=True)
class LeastSquares(Update):
    """The kept weights that lose least of the layer's outputs under its mask, see `least_squares_update`."""

    name: ClassVar[str] = "least-squares"
    label: ClassVar[str] = "Least squares"
    formula: ClassVar[str] = "min tr((W' − W)·H·(W' − W)ᵀ) under the mask"

    def update_layer(self, problem: LayerProblem, keep: Tensor) -> Tensor:
        return least_squares_update(
            problem.weight, keep, problem.hessian, damping=problem.damping, target=problem.target
        )


def least_squares_update(
    weight: Tensor,
    mask: Tensor,
    hessian: Tensor,
    *,
    steps: int = 20,
    damping: float = 0.01,
    target: Tensor | None = None,
) -> Tensor:
    """The W' (d_out, d_in) float32, zero where the mask (True = kept) is False, that minimises tr((W'−W)·H·(W'−W)ᵀ).

    Every row is a least-squares problem of its own over its kept weights. Preconditioned conjugate gradients solve all
    rows together: one step is two products with (d_in, d_in) matrices, 4·d_out·d_in² operations, and the
    preconditioner is H⁻¹ restricted to the kept weights. `obs_update` is greedy, this is not: in the limit no other
    weights under the same mask give a smaller error on the calibration inputs.

    Args:
        weight: (d_out, d_in), only read.
        mask: (d_out, d_in) bool.
        hessian: H = Σ α·XᵀX (d_in, d_in), see `collect_hessians`; all zero leaves the kept weights as they are.
        steps: at most so many; rows that have converged stand still.
        damping: λ/mean(diag H) of H + λI, which keeps weights near the dense ones where the inputs say little.
        target: T = Σ α·YᵀX (d_out, d_in), the outputs Y to reproduce times the inputs; None is W·H, the layer's own.

    Raises:
        UserError: shapes that do not fit, a Hessian that is not finite or not positive definite, a damping below 0.
    """
    check_layer(weight, mask, hessian)
    steps = whole(steps, "The number of steps", 1, 10_000)
    damping = check_damping(damping)
    if saw_only_zeros(hessian):
        return weight.detach().float() * mask.to(weight.device)
    with torch.autocast(weight.device.type, enabled=False):
        dense = weight.detach().float()
        kept = mask.to(dense.device)
        hessian = hessian.to(dense.device)
        matrix, helper = damped(hessian, damping), inverse(hessian, damping).float()
        result = dense * kept
        # The right-hand side minus matrix·result, for the target W·H without the difference of two large numbers.
        rest = (dense - result) @ matrix
        if target is not None:
            rest += target.to(rest) - dense @ hessian.float()
        rest *= kept
        ready = (rest @ helper).mul_(kept)
        direction, size = ready, (rest * ready).sum(1)
        goal = _SMALL**2 * size
        for _ in range(steps):
            image = (direction @ matrix).mul_(kept)
            curvature = (direction * image).sum(1)
            length = torch.where((size > goal) & (curvature > 0), size / curvature, 0.0)[:, None]
            result.addcmul_(length, direction)
            rest.addcmul_(length, image, value=-1)
            ready = (rest @ helper).mul_(kept)
            before, size = size, (rest * ready).sum(1)
            if not bool((size > goal).any()):
                break
            direction = torch.where(before > 0, size / before, 0.0)[:, None] * direction + ready
        return result
