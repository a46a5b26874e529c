"""The update of SparseGPT for a mask that is given: pruned columns are compensated one by one, left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.calibration.damped_inverse import check_damping, check_layer, inverse, saw_only_zeros
from dit_prune_viz.checks import whole
from dit_prune_viz.methods.problem import LayerProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.update.base import Update


@register
@dataclass(frozen=True)
class OBSUpdate(Update):
    """Kept weights make up for the pruned columns one by one, left to right, see `obs_update`."""

    name: ClassVar[str] = "obs"
    label: ClassVar[str] = "OBS (SparseGPT)"
    formula: ClassVar[str] = "w ← w − w_j/[H⁻¹]ⱼⱼ·[H⁻¹]ⱼ,: column by column"
    paper: ClassVar[str] = "arXiv 2301.00774"

    def update_layer(self, problem: LayerProblem, keep: Tensor) -> Tensor:
        return obs_update(problem.weight, keep, problem.hessian, damping=problem.damping)


def obs_update(weight: Tensor, mask: Tensor, hessian: Tensor, *, block: int = 64, damping: float = 0.01) -> Tensor:
    """Weights (d_out, d_in) float32, zero where the mask (True = kept) is False, the others moved to compensate.

    SparseGPT (arXiv 2301.00774, Algorithm 1) with the mask fixed: column by column, the weights that the mask removes
    there are set to zero and the columns to the right take over what they did, by the optimal brain surgeon's
    w_ij / [H⁻¹]_jj · [H⁻¹]_j,: with H⁻¹ of the columns not yet done. Columns on the left no longer move, which makes it
    one pass of about d_out·d_in² operations, and greedy; `least_squares_update` has no such order.

    Args:
        weight: (d_out, d_in), only read.
        mask: (d_out, d_in) bool.
        hessian: Σ α·XᵀX (d_in, d_in), see `collect_hessians`; all zero leaves the kept weights as they are.
        block: columns whose effect on the columns further right is applied at once; changes the speed only.
        damping: added to the diagonal, as a share of its mean; grows if the Hessian is singular all the same.

    Raises:
        UserError: shapes that do not fit, a Hessian that is not finite or not positive definite, a damping below 0.
    """
    check_layer(weight, mask, hessian)
    block, damping = whole(block, "The block size", 1, 1 << 20), check_damping(damping)
    if saw_only_zeros(hessian):
        return weight.detach().float() * mask.to(weight.device)
    with torch.autocast(weight.device.type, enabled=False):
        factor = inverse(hessian.to(weight.device), damping)
        factor = torch.linalg.cholesky(factor, upper=True).float()
        left = weight.detach().to(torch.float32, copy=True)
        gone = ~mask.to(weight.device)
        for start in range(0, weight.shape[1], block):
            stop = min(start + block, weight.shape[1])
            inside, errors = left[:, start:stop], torch.zeros_like(left[:, start:stop])
            steps = factor[start:stop, start:stop]
            for column in range(stop - start):
                error = inside[:, column] * gone[:, start + column] / steps[column, column]
                inside[:, column:] -= error[:, None] * steps[column, column:]
                errors[:, column] = error
            left[:, stop:] -= errors @ factor[start:stop, stop:]
        return left.masked_fill_(gone, 0.0)
