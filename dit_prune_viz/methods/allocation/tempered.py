"""Tempered: half-way between the same sparsity everywhere and what a threshold on the energies would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.budget import bounds, fill, spread
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.allocation.uniform import Uniform
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.registry import register


@register
@dataclass(frozen=True)
class Tempered(Allocation):
    """Every layer loses (1 − lam) · uniform + lam · threshold; an extension of this project.

    threshold counts a layer's weights among the smallest of the whole model in
    W_ij²·E[x_j²] / (energy of the layer) · √(weights of the layer) · (its weight). The threshold alone (lam = 1)
    minimises the error of one model call and still makes worse pictures, because errors add up over the steps.

    Attributes:
        lam: share of the threshold, 0–1.

    Raises:
        UserError: a share outside 0–1.
    """

    name: ClassVar[str] = "tempered"
    label: ClassVar[str] = "Tempered by energy"
    formula: ClassVar[str] = "(1 − λ)·uniform + λ·energy threshold"

    lam: float = option(0.6, "Tempering λ", low=0, high=1, step=0.05, slider=True)

    def __post_init__(self) -> None:
        if not 0 <= self.lam <= 1:
            raise UserError(f"The share λ of the energy threshold must lie between 0 and 1, but it is {self.lam}.")

    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """As `Allocation.counts`."""
        lows, highs = bounds(costs, total)
        prices = [cost.energies * (math.sqrt(cost.weights) * cost.weight) for cost in costs]
        threshold = fill(costs, [cost.removed for cost in costs], prices, lows, highs, total)
        uniform = Uniform().counts(costs, total)
        targets = [(1 - self.lam) * uniform[cost.name] + self.lam * threshold[cost.name] for cost in costs]
        return spread(costs, np.array(targets), lows, highs, total)
