"""What removing weights costs a layer, boiled down to curves of a few thousand points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.error_curve import ErrorCurve
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.row_pieces import row_pieces
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
    share of saliencies above outlier_level · mean. weight: how much its damage counts, no unit. curve: what its damage
    does to the model, where that was measured. floor, ceiling: the least and the most weights it may lose (None: all).
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
    curve: ErrorCurve | None = None

    @property
    def harm(self) -> np.ndarray:
        """(p + 1,) float64, what removing so many weights does to the model: the error where it was measured, else the
        damage times its weight."""
        return self.lost * self.weight if self.curve is None else self.curve.at(self.lost)

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
    return weighing(
        name,
        scores,
        weight,
        mean_square,
        granularity,
        sensitivity=sensitivity,
        floor=floor,
        ceiling=ceiling,
        outlier_level=outlier_level,
    )()


def weighing(
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
) -> Callable[[], LayerCost]:
    """`layer_cost` in two steps: the layer is read now, the sample of it is sorted when the result is called.

    That may be done in another thread.
    """
    step = _step(scores.shape, granularity)
    table, energy = _sampled(scores, weight, mean_square, granularity, step)
    mean = _mean(scores)
    return partial(
        _weigh,
        table,
        energy,
        granularity,
        name=name,
        weights=scores.numel(),
        mean_score=mean,
        outlier_share=int(torch.count_nonzero(scores > outlier_level * mean)) / scores.numel(),
        outlier_level=outlier_level,
        weight=sensitivity,
        floor=floor,
        ceiling=ceiling,
    )


def _weigh(table: Tensor, energy: Tensor, granularity: str, *, weights: int, **known: object) -> LayerCost:
    size = table.numel()
    points = np.unique(np.linspace(0, size, min(size, KNOTS) + 1).round().astype(np.int64))

    def at_knots(values: Tensor) -> np.ndarray:
        return values[torch.from_numpy(points[1:] - 1).to(values.device)].double().cpu().numpy()

    keys = _in_order(table, energy)
    lost = at_knots(_low(keys).double().cumsum(0))
    return LayerCost(
        weights=weights,
        removed=np.round(points * (weights / size)).astype(np.int64),
        lost=np.concatenate([[0.0], lost]).clip(0, 1),
        scores=at_knots(_high(keys) if granularity == "layer" else _sorted(table.view(1, -1))[0]),
        energies=at_knots(_sorted(energy.view(1, -1))[0]),
        **known,
    )


def _mean(scores: Tensor) -> float:
    """In float64; torch converts one by one where it adds up in another precision, so large tables go in pieces."""
    parts = [part for (part,) in row_pieces(scores)]
    if len(parts) == 1:
        return float(scores.mean(dtype=torch.float64))
    room = torch.empty((max(map(len, parts)), scores.shape[1]), dtype=torch.float64)
    return math.fsum(float(room[: len(part)].copy_(part).sum()) for part in parts) / scores.numel()


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
    squares = float64_capable(mean_square).to(energy)
    if granularity == "column":
        squares = squares[::step, None]
    elif granularity == "layer" or pattern:
        # The inputs of the first weight of every group that is looked at, and of those beside it.
        width = pattern[1] if pattern else 1
        first = torch.arange(0, weight.numel() // width, step, device=energy.device) % (weight.shape[1] // width)
        squares = squares.view(-1, width)[first].view(energy.shape)
    energy *= squares
    return table, (energy / (energy.sum() or 1.0)).float()


def _in_order(table: Tensor, energy: Tensor) -> Tensor:
    """Scores with their energies, flat int64, in the order in which an ever greater count removes them.

    That is the order of `keep_mask`: the smallest of every group go first, from the smallest of these to the greatest,
    then the second smallest. Of equal scores the smaller energy comes first, because score and energy are sorted as one
    whole number of 64 bits: see `_high` and `_low`.
    """
    bits = table.view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32  # as whole numbers, floats below 0 would run backwards
    keys = _sorted(keys | energy.view(torch.int32))
    if len(keys) > 1:
        keys = _sorted(keys.T.contiguous())
    return keys.flatten()


def _high(keys: Tensor) -> Tensor:
    """The scores in the keys of `_in_order`."""
    bits = (keys >> 32).to(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _low(keys: Tensor) -> Tensor:
    """The energies in the keys of `_in_order`."""
    return keys.to(torch.int32).view(torch.float32)


def _sorted(rows: Tensor) -> Tensor:
    """Every row sorted; NumPy's sort is many times faster than torch's on a CPU."""
    return rows.sort(dim=1).values if rows.is_cuda else torch.from_numpy(np.sort(rows.numpy(), axis=1))
