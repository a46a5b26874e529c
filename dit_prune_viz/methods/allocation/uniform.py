"""Uniform: the same sparsity for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.budget import bounds, spread
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.registry import register


@register
@dataclass(frozen=True)
class Uniform(Allocation):
    """Every layer loses the same share of its weights, as far as its floor and ceiling allow."""

    name: ClassVar[str] = "uniform"
    label: ClassVar[str] = "Uniform"
    formula: ClassVar[str] = "the same sparsity for every layer"
    exact: ClassVar[bool] = False

    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """As `Allocation.counts`."""
        lows, highs = bounds(costs, total)
        weights = np.array([cost.weights for cost in costs], dtype=np.float64)
        return spread(costs, weights * (total / weights.sum()), lows, highs, total)
