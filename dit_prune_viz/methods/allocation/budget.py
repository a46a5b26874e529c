"""Sharing an exact number of weights out, between a floor and a ceiling for every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.cost import LayerCost


def bounds(
    costs: Sequence[LayerCost], total: int, floor: float = 0.0, ceiling: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most weights that every layer may lose.

    Args:
        costs: the layers, with bounds of their own.
        total: how many weights go in all.
        floor: least sparsity of every layer, 0–1.
        ceiling: greatest sparsity of every layer, 0–1.

    Returns:
        (lows, highs), int64 (layers,) each.

    Raises:
        UserError: no layers, a floor above a ceiling, or no counts between them that add up to `total`.
    """
    if not costs:
        raise UserError("There are no layers to share the budget among; load a diffusion transformer.")
    lows = np.array([max(cost.floor, math.ceil(floor * cost.weights - 1e-6)) for cost in costs], dtype=np.int64)
    highs = np.array([_most(cost, ceiling) for cost in costs], dtype=np.int64)
    for cost, low, high in zip(costs, lows, highs, strict=True):
        if not 0 <= low <= high:
            raise UserError(
                f"Layer {cost.name} should lose at least {low:,} and at most {high:,} of its {cost.weights:,} weights; "
                "lower its floor or raise its ceiling."
            )
    if lows.sum() > total:
        raise UserError(
            f"The floors alone remove {lows.sum():,} weights, more than the {total:,} asked for; lower the floors or "
            "raise the sparsity."
        )
    if highs.sum() < total:
        raise UserError(
            f"The ceilings let {highs.sum():,} weights go, fewer than the {total:,} asked for; raise the ceilings or "
            "lower the sparsity."
        )
    return lows, highs


def _most(cost: LayerCost, ceiling: float) -> int:
    own = cost.weights if cost.ceiling is None else min(cost.ceiling, cost.weights)
    return min(own, math.floor(ceiling * cost.weights + 1e-6))


def spread(costs: Sequence[LayerCost], targets: np.ndarray, lows: np.ndarray, highs: np.ndarray, total: int) -> dict:
    """Counts near the `targets` (layers,), all shifted by the same share of their weights until they add up to `total`.

    Rounded by largest remainder, the first layer first. `lows` and `highs` come from `bounds`.
    """
    weights = np.array([cost.weights for cost in costs], dtype=np.float64)
    below, above = ((lows - targets) / weights).min(), ((highs - targets) / weights).max()
    for _ in range(200):
        middle = (below + above) / 2
        if np.clip(targets + middle * weights, lows, highs).sum() < total:
            below = middle
        else:
            above = middle
    wanted = np.clip(targets + above * weights, lows, highs)
    counts = np.clip(np.floor(wanted + 1e-7), lows, highs).astype(np.int64)
    while (missing := total - int(counts.sum())) != 0:
        sign = 1 if missing > 0 else -1
        order = np.argsort(sign * (counts - wanted), kind="stable")
        order = order[(counts < highs if missing > 0 else counts > lows)[order]]
        counts[order[: abs(missing)]] += sign
    return _named(costs, counts)


def fill(
    costs: Sequence[LayerCost],
    edges: Sequence[np.ndarray],
    prices: Sequence[np.ndarray],
    lows: np.ndarray,
    highs: np.ndarray,
    total: int,
) -> dict[str, int]:
    """Remove what is cheapest until `total` is reached.

    Layer l's weights from edges[l][i] to edges[l][i + 1] cost prices[l][i] each, ascending; edges run from 0 (or from
    lows[l]) to at least highs[l]. Of equal prices the first layer's go first.
    """
    layer = np.repeat(np.arange(len(costs)), [len(price) for price in prices])
    starts = np.concatenate([edge[:-1] for edge in edges])
    ends = np.concatenate([edge[1:] for edge in edges])
    sizes = np.clip(ends, lows[layer], highs[layer]) - np.clip(starts, lows[layer], highs[layer])
    price = np.concatenate([np.maximum.accumulate(price) if len(price) else price for price in prices])
    order = np.argsort(price, kind="stable")
    budget = total - int(lows.sum())
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = np.clip(budget - before, 0, sizes[order])
    counts = lows.copy()
    np.add.at(counts, layer[order], taken.astype(np.int64))
    return _named(costs, counts)


def _named(costs: Sequence[LayerCost], counts: np.ndarray) -> dict[str, int]:
    return {cost.name: int(count) for cost, count in zip(costs, counts, strict=True)}
