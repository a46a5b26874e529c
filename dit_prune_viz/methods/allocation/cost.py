"""What removing weights costs a layer, boiled down to curves of a few thousand points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.float64 import float64_capable

KNOTS = 2048
"""Curves have at most so many steps; layers of no more weights are described weight by weight."""

_SAMPLE = 1 << 22
"""Layers of more weights are described by about so many of them, spread evenly."""


@dataclass(frozen=True, eq=False)
class LayerCost:
    """A layer, or any other part of a model that gets a share of the budget, as an allocation sees it.

    weights: how many it has. removed: (p + 1,) int64, ascending from 0 to `weights`. lost: (p + 1,) float64, the share
    of its energy Σ W²·E[x²] that goes with that many weights, removed in the order of its own ranking. scores and
    energies: (p,) float64, the greatest saliency, and the greatest share of the layer's energy of a single weight,
    among the removed[1:] smallest, both sorted over the whole layer. mean_score: the mean saliency. outlier_share: the
    share of saliencies above outlier_level · mean. weight: how much its damage counts, no unit. floor, ceiling: the
    least and the most weights it may lose (None: all).
    """

    name: str
    weights: int
    removed: np.ndarray
    lost: np.ndarray
    scores: np.ndarray
    energies: np.ndarray
    mean_score: float = 0.0
    outlier_share: float = 0.0
    outlier_level: float = 5.0
    weight: float = 1.0
    floor: int = 0
    ceiling: int | None = None

    def damage(self, count: float) -> float:
        """The share of the layer's energy that goes with `count` weights, 0–1."""
        return float(np.interp(count, self.removed, self.lost))


def layer_cost(
    name: str,
    scores: Tensor,
    weight: Tensor,
    mean_square: Tensor,
    granularity: str,
    *,
    sensitivity: float = 1.0,
    floor: int = 0,
    ceiling: int | None = None,
    outlier_level: float = 5.0,
) -> LayerCost:
    """Measure a layer: saliencies `scores` (d_out, d_in) ranked by `granularity`, energies W_ij²·E[x_j²].

    weight is (d_out, d_in), mean_square E[x_j²] (d_in,) in any unit, because only shares of the layer's energy count.
    Layers of more than four million weights are measured on an even sample of their groups.
    """
    step = _step(scores.shape, granularity)
    table, energy = _sampled(scores, weight, mean_square, granularity, step)
    size = table.numel()
    points = np.unique(np.linspace(0, size, min(size, KNOTS) + 1).round().astype(np.int64))

    def at_knots(values: Tensor) -> np.ndarray:
        return values[torch.from_numpy(points[1:] - 1).to(values.device)].double().cpu().numpy()

    lost = at_knots(_in_order(table, energy).cumsum(0))
    mean = float(scores.mean(dtype=torch.float64))
    removed = np.round(points * (scores.numel() / size)).astype(np.int64)
    return LayerCost(
        name=name,
        weights=scores.numel(),
        removed=removed,
        lost=np.concatenate([[0.0], lost]).clip(0, 1),
        scores=at_knots(_sorted(table.view(1, -1))[0]),
        energies=at_knots(_sorted(energy.view(1, -1))[0]),
        mean_score=mean,
        outlier_share=float((scores > outlier_level * mean).double().mean()),
        outlier_level=outlier_level,
        weight=sensitivity,
        floor=floor,
        ceiling=ceiling,
    )


def _step(shape: tuple[int, ...], granularity: str) -> int:
    """Every how many-th group is looked at, or every how many-th weight where the layer is one group."""
    step = math.ceil(shape[0] * shape[1] / _SAMPLE)
    if granularity == "layer" and step > 1:
        while math.gcd(step, shape[1]) > 1:  # else the same input channels would be seen in every row
            step += 1
    return step


def _sampled(scores: Tensor, weight: Tensor, mean_square: Tensor, granularity: str, step: int) -> tuple[Tensor, Tensor]:
    """Scores (groups, weights of a group) and their shares of the energy of them all, float32, one group a row."""
    pattern = n_of_m(granularity)

    def arrange(table: Tensor) -> Tensor:
        if granularity == "layer":
            return table.reshape(-1)[::step][None].contiguous()
        if granularity == "column":
            return table.T[::step].contiguous()
        return (table.reshape(-1, pattern[1]) if pattern else table)[::step].contiguous()

    table = arrange(float64_capable(scores).float())
    energy = arrange(float64_capable(weight)).double().square()
    energy *= arrange(float64_capable(mean_square).expand(weight.shape)).to(energy)
    return table, (energy / (energy.sum() or 1.0)).float()


def _in_order(table: Tensor, energy: Tensor) -> Tensor:
    """The energies, flat float64, in the order in which an ever greater count removes them (as `keep_mask` does).

    The smallest of every group go first, from the smallest of these to the greatest, then the second smallest. Of equal
    scores the smaller energy comes first, because score and energy are sorted as one whole number of 64 bits.
    """
    bits = table.view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32  # as whole numbers, floats below 0 would run backwards
    keys = _sorted(keys | energy.view(torch.int32))
    if len(keys) > 1:
        keys = _sorted(keys.T.contiguous())
    return keys.flatten().to(torch.int32).view(torch.float32).double()


def _sorted(rows: Tensor) -> Tensor:
    """Every row sorted; NumPy's sort is many times faster than torch's on a CPU."""
    return rows.sort(dim=1).values if rows.is_cuda else torch.from_numpy(np.sort(rows.numpy(), axis=1))
