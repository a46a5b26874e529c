"""Predicted damage over the number of weights that go, from one reading of a layer: every sparsity at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.row_pieces import PIECE
from dit_prune_viz.pipelines.float64 import float64_capable

_BINS = 1 << 16
"""A score counts by the upper half of its float32: bins are less than a hundredth of it wide."""

_SHUFFLE, _BACK = 40503, pow(40503, -1, _BINS)
"""Factors that undo each other modulo `_BINS`."""

_POINTS = 1 << 13
"""Curves have at most so many."""


@dataclass(frozen=True, eq=False)
class DamageCurve:
    """removed: (p,) int64, ascending from 0 to all weights. lost: (p,) float64, the damage of losing so many, 0–1."""

    removed: np.ndarray
    lost: np.ndarray

    def damage(self, count: float) -> float:
        """The share of the layer's energy that goes with the first `count` weights of its ranking."""
        return float(np.interp(count, self.removed, self.lost))


def damage_curve(scores: Tensor, weight: Tensor, mean_square: Tensor, granularity: str) -> DamageCurve:
    """What `damage` gives for the mask of any count, within about a thousandth, equal scores in any order.

    Args:
        scores: (d_out, d_in), finite.
        weight: (d_out, d_in), only read.
        mean_square: E[x_j²] of the inputs (d_in,), in any unit.
        granularity: "layer", "row", "column" or N:M. Between the counts that take as many weights from every group the
            curve is straight.
    """
    pieces = _pieces(float64_capable(scores), float64_capable(weight), float64_capable(mean_square), granularity)
    if granularity == "layer":
        counts, energies = _by_score(pieces)
    else:
        energies = _by_rank(pieces)
        counts = np.full(len(energies), scores.numel() // len(energies))
    removed = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    lost = np.concatenate([[0.0], energies.cumsum()])
    lost /= lost[-1] or 1.0
    if len(removed) > _POINTS:
        chosen = np.unique(np.searchsorted(removed, np.linspace(0, removed[-1], _POINTS)))
        removed, lost = removed[chosen], lost[chosen]
    return DamageCurve(removed, lost)


def _pieces(scores: Tensor, weight: Tensor, mean_square: Tensor, granularity: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores as whole numbers of the same order (int32), and energies (float32), one group a row where there are some;
    some rows at a time, so that they stay in the processor's cache."""
    pattern = n_of_m(granularity)
    square = mean_square.to(weight.device, torch.float32)
    square = square / (square.max().clamp_min(torch.finfo(torch.float32).tiny))  # else tiny ones would vanish below
    if granularity == "column":
        scores, weight, square = scores.T, weight.T, square[:, None]
    else:
        square = square.expand(len(weight), -1)
    height = max(1, PIECE // weight.shape[1])
    for start in range(0, len(weight), height):
        some = slice(start, start + height)
        bits = scores[some].float().contiguous().view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as whole numbers, floats below 0 would run backwards
        energy = weight[some].float().square().mul_(square[some])
        width = pattern[1] if pattern else weight.shape[1]
        yield bits.view(-1, width), energy.contiguous().view(-1, width)


def _by_score(pieces: Iterator[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """How many weights have scores in each bin that has any, from the smallest, and the sum of their energies."""
    counts, energies = 0, 0
    for bits, energy in pieces:
        bins = (bits.view(-1) >> 16).long() + _BINS // 2
        counts = counts + torch.bincount(bins, minlength=_BINS)
        energies = energies + torch.bincount(bins, energy.view(-1).double(), _BINS)
    held = counts > 0
    return counts[held].cpu().numpy(), energies[held].cpu().numpy()


def _by_rank(pieces: Iterator[tuple[Tensor, Tensor]]) -> np.ndarray:
    """The energies of the weights that are the smallest of their groups, of the second smallest, and so on."""
    total = 0
    for bits, energy in pieces:
        # Score above energy in one whole number, each with the upper half of its bits, so that one sort orders both.
        # The energies are shuffled, because of weights with the same score the cheap ones must not always go first.
        keys = (bits & -_BINS) | ((energy.bfloat16().view(torch.int16).int() * _SHUFFLE) & (_BINS - 1))
        keys = keys.sort(dim=1).values if keys.is_cuda else torch.from_numpy(np.sort(keys.numpy(), axis=1))
        total = total + ((keys * _BACK) << 16).view(torch.float32).sum(0).double()
    return total.cpu().numpy()
