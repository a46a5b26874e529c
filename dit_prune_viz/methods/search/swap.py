"""Swap: better masks with the same counts, by swapping pruned for kept weights through the Gram matrix.

The refinement is SparseSwaps (Zimmer et al., arXiv 2512.10922), in the family of DSnoT (arXiv 2310.08915). This project
adds N:M and cluster groups, damping, and targets other than the layer's own outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.calibration.damped_inverse import check_damping, check_layer, damped, saw_only_zeros
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.problem import LayerProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.search.base import Search

_CHUNK = 1 << 22
"""Weights that are looked at together: whole rows, which have nothing to do with each other."""

_GAIN = 1e-6
"""Share of a row's error that a swap has to save; less is rounding."""


@register
@dataclass(frozen=True)
class Swap(Search):
    """Swaps one pruned for one kept weight of a row while that lowers the row's output error, see `swap_weights`."""

    name: ClassVar[str] = "swap"
    label: ClassVar[str] = "Swap pruned for kept weights"
    formula: ClassVar[str] = "1-swaps that lower d·H·dᵀ"
    paper: ClassVar[str] = "arXiv 2512.10922"

    def improve_layer(self, problem: LayerProblem, keep: Tensor) -> Tensor:
        groups = swap_groups(problem.plan, tuple(problem.weight.shape))
        return swap_weights(
            problem.weight, keep, problem.hessian, groups=groups, damping=problem.damping, target=problem.target
        )


def swap_weights(
    weight: Tensor,
    mask: Tensor,
    hessian: Tensor,
    *,
    groups: Tensor | None = None,
    steps: int = 1000,
    damping: float = 0.1,
    target: Tensor | None = None,
) -> Tensor:
    """A mask (d_out, d_in), True = kept, that prunes as many weights of each row and removes less output.

    A row that loses the weights d has the squared error d·H·dᵀ. A saliency sees only the diagonal of H; here the cross
    terms count, so that the contributions of the pruned weights cancel each other. In every step each row swaps one
    pruned weight for one kept weight: the better of the two is chosen by itself, its partner as the best one for it,
    in turns from the pruned and from the kept side; a row that finds nothing from either side is finished. Weights are
    not moved; of equal choices the first is taken. Every step reads the unfinished rows a
    few times, 4 · d_out · d_in bytes each.

    Args:
        weight: (d_out, d_in), only read.
        mask: (d_out, d_in) bool, where the search starts.
        hessian: H = Σ α·XᵀX (d_in, d_in), see `collect_hessians`; all zero leaves the mask as it is.
        groups: (d_in,) or (d_out, d_in) integers; only weights with the same number change places, such as the columns
            ÷ 4 for 2:4, or the clusters of a plan. None lets every weight of the row.
        steps: swaps per row, at most.
        damping: λ/mean(diag H) of H + λI, which keeps cancellations that hold for these inputs only from paying off.
        target: T = Σ α·YᵀX (d_out, d_in), the outputs Y to reproduce times the inputs; None is W·H, the layer's own.

    Raises:
        UserError: shapes that do not fit, a Hessian that is not finite, a damping below 0.
    """
    check_layer(weight, mask, hessian)
    steps = whole(steps, "The number of swaps", 1, 1_000_000)
    if groups is not None and groups.shape not in (weight.shape[1:], weight.shape):
        raise UserError(f"Groups of shape {tuple(groups.shape)} do not fit weights of shape {tuple(weight.shape)}.")
    damping = check_damping(damping)
    if saw_only_zeros(hessian):
        return mask.to(weight.device, copy=True)
    with torch.autocast(weight.device.type, enabled=False):
        dense = weight.detach().float()
        hessian = hessian.to(dense.device)
        matrix = damped(hessian, damping)
        keep = mask.to(dense.device, copy=True)
        for rows in torch.arange(len(dense), device=dense.device).split(max(1, _CHUNK // dense.shape[1])):
            own = dense[rows]
            slope = (own * ~keep[rows]) @ matrix
            if target is not None:
                slope += target[rows].to(own) - own @ hessian.float()
            label = None if groups is None else groups.to(own.device).expand_as(dense)[rows]
            keep[rows] = _Rows(own, keep[rows], slope, matrix, label).search(steps)
    return keep


def error_left(weight: Tensor, before: Tensor, after: Tensor, hessian: Tensor, damping: float = 0.1) -> float:
    """Σ d·H·dᵀ of the weights that the mask `after` prunes ÷ the same of `before`; 1 where there was no error.

    weight and masks (d_out, d_in), True = kept; H is damped as in `swap_weights`.
    """
    matrix = damped(hessian, damping)
    errors = []
    for mask in (after, before):
        lost = weight.float().masked_fill(mask.to(weight.device), 0)
        errors.append(float(((lost @ matrix) * lost).sum(dtype=torch.float64)))
    return errors[0] / errors[1] if errors[1] > 0 else 1.0


def swap_groups(plan: LayerPlan, shape: tuple[int, int]) -> Tensor | None:
    """The `groups` of `swap_weights`: which weights of a row may change places, so that every count of the plan stays.

    Inputs M by M under N:M; inside a cluster of columns or single weights; none at all where columns are ranked. None
    where the whole row is one group. shape is (d_out, d_in).
    """
    columns = torch.arange(shape[1])
    pattern = n_of_m(plan.granularity)
    if pattern or plan.granularity == "column":
        return columns // (pattern[1] if pattern else 1)
    groups = None if plan.clusters is None else plan.clusters.pinned_groups(shape)
    if groups is None or (groups == groups[:, :1]).all():
        return None
    return torch.from_numpy(groups[0] if (groups == groups[:1]).all() else groups)


class _Rows:
    """Some rows on their way. slope: half the gradient of the error by the pruned weights d, d·H + const."""

    def __init__(self, weight: Tensor, keep: Tensor, slope: Tensor, matrix: Tensor, label: Tensor | None) -> None:
        self.weight, self.keep, self.slope, self.matrix, self.label = weight, keep, slope, matrix, label
        self.own = weight.square() * matrix.diagonal()  # what each weight costs by itself
        self.least = _GAIN * (self.own * ~keep).sum(1)

    def search(self, steps: int) -> Tensor:
        result, place = self.keep.clone(), torch.arange(len(self.keep), device=self.keep.device)
        idle = torch.zeros_like(place)
        for step in range(steps):
            rows, leaves, returns = self._pairs(from_pruned=step % 2 == 0)
            self._swap(rows, leaves, returns)
            idle += 1
            idle[rows] = 0
            going = idle < 2
            if int(going.sum()) <= len(going) * 3 // 4:
                result[place[~going]] = self.keep[~going]
                place, idle = place[going], idle[going]
                self._shrink(going)
                if not len(place):
                    return result
        result[place] = self.keep
        return result

    def _pairs(self, *, from_pruned: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(rows that gain, the kept weight that leaves in each, the pruned one that returns in each)."""
        change = 2 * self.weight * self.slope
        costs = torch.where(self.keep, self.own + change, self.own - change)
        leaving, returning = costs.masked_fill(~self.keep, torch.inf), costs.masked_fill(self.keep, torch.inf)
        first, second = (returning, leaving) if from_pruned else (leaving, returning)
        chosen = first.argmin(1, keepdim=True)
        price = first.gather(1, chosen)
        both = second - 2 * self.weight * self.weight.gather(1, chosen) * self.matrix[chosen[:, 0]]
        if self.label is not None:
            both.masked_fill_(self.label != self.label.gather(1, chosen), torch.inf)
        partner = both.argmin(1, keepdim=True)
        rows = (both.gather(1, partner) + price)[:, 0] < -self.least
        pair = (partner, chosen) if from_pruned else (chosen, partner)
        leaves, returns = (side[rows, 0] for side in pair)
        return rows.nonzero()[:, 0], leaves, returns

    def _swap(self, rows: Tensor, leaves: Tensor, returns: Tensor) -> None:
        self.keep[rows, leaves] = False
        self.keep[rows, returns] = True
        gone, back = (self.weight[rows, side][:, None] * self.matrix[side] for side in (leaves, returns))
        self.slope[rows] += gone - back

    def _shrink(self, going: Tensor) -> None:
        for name in ("weight", "keep", "slope", "own", "least"):
            setattr(self, name, getattr(self, name)[going])
        if self.label is not None:
            self.label = self.label[going]
