"""Damage-aware: the split of the budget that costs the least predicted damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.budget import bounds, fill
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.registry import register


@register
@dataclass(frozen=True)
class DamageAware(Allocation):
    """Minimises Σ (weight of the layer) · (predicted damage of the layer); an extension of this project.

    Where sensitivity was measured, the sum of the layers' measured errors takes its place. A slope of error over damage
    would not do: where little is left of a layer, its error is up to some hundred times what the slope says.

    Each layer's damage over its count is replaced by the greatest convex curve below it, on which taking the cheapest
    step first is optimal (Lagrange). Where the damage is convex itself, as it is for a ranking by energy over the
    layer, the split is the best there is.

    Attributes:
        floor: least sparsity of a layer, 0–1.
        ceiling: greatest sparsity of a layer, 0–1.

    Raises:
        UserError: unless 0 ≤ floor ≤ ceiling ≤ 1.
    """

    name: ClassVar[str] = "damage-aware"
    label: ClassVar[str] = "Damage-aware"
    formula: ClassVar[str] = "least Σ predicted damage"
    by_size: ClassVar[bool] = True

    floor: float = option(0.0, "Floor", low=0, high=1, step=0.05, percent=True)
    ceiling: float = option(1.0, "Ceiling", low=0, high=1, step=0.05, percent=True)

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.ceiling <= 1:
            raise UserError(
                f"The floor {self.floor} and the ceiling {self.ceiling} of the layers' sparsities must lie between 0 "
                "and 1, the floor not above the ceiling."
            )

    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """As `Allocation.counts`."""
        lows, highs = bounds(costs, total, self.floor, self.ceiling)
        edges, prices = [], []
        for cost, low, high in zip(costs, lows, highs, strict=True):
            edge, damage = _lower_hull(cost, int(low), int(high))
            edges.append(edge)
            prices.append(np.diff(damage) / np.diff(edge))
        return fill(costs, edges, prices, lows, highs, total)


def _lower_hull(cost: LayerCost, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """The corners (counts, harms) of the greatest convex curve below what the layer costs between two counts."""
    inside = cost.removed[(cost.removed > low) & (cost.removed < high)]
    x = np.unique(np.concatenate([[low], inside, [high]])).astype(np.int64)
    hull: list[tuple[float, float]] = []
    for point in zip(x.tolist(), np.interp(x, cost.removed, cost.harm).tolist(), strict=True):
        while len(hull) > 1 and _above(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    counts, damages = np.array(hull).T
    return counts.astype(np.int64), damages


def _above(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the middle point lies on or above the line from the first to the last."""
    (x0, y0), (x1, y1), (x2, y2) = first, middle, last
    return (y1 - y0) * (x2 - x0) >= (y2 - y0) * (x1 - x0)
