"""OWL, outlier-weighed layer sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.budget import bounds, spread
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.registry import register


@register
@dataclass(frozen=True)
class OWL(Allocation):
    """Layers with many outliers, scores above m · mean, lose less (arXiv 2310.05175; m = 5, spread = 0.08).

    The shares of outliers are mapped to densities in a band of width 2·spread, whose mean over all weights is the one
    asked for.

    Attributes:
        m: level of an outlier, above 0.
        spread: half the width of the band, 0–1.

    Raises:
        UserError: a number out of range.
    """

    name: ClassVar[str] = "owl"
    label: ClassVar[str] = "OWL: outliers lose less"
    formula: ClassVar[str] = "density ∝ share of scores above M·mean"
    paper: ClassVar[str] = "arXiv 2310.05175"

    m: float = option(5.0, "M, outlier level", low=1, high=20, step=0.5)
    spread: float = option(0.08, "λ, spread", low=0, high=1, step=0.01)

    @property
    def outlier_level(self) -> float:
        return self.m

    def __post_init__(self) -> None:
        if not (math.isfinite(self.m) and self.m > 0):
            raise UserError(f"OWL's outlier level m must be above 0, but it is {self.m}.")
        if not 0 <= self.spread <= 1:
            raise UserError(f"OWL's spread must lie between 0 and 1, but it is {self.spread}.")

    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """As `Allocation.counts`.

        Raises:
            UserError: floors or ceilings forbid the total, or the outliers were counted at another level than m.
        """
        lows, highs = bounds(costs, total)
        if any(cost.outlier_level != self.m for cost in costs):
            raise UserError(f"The outliers of the layers were counted at another level than {self.m:g}; plan again.")
        weights = np.array([cost.weights for cost in costs], dtype=np.float64)
        outliers = np.array([cost.outlier_share for cost in costs])
        band = outliers.max() - outliers.min()
        extra = (outliers - outliers.min()) / band * 2 * self.spread if band else np.zeros(len(costs))
        extra -= np.average(extra, weights=weights)
        return spread(costs, weights * (total / weights.sum() - extra), lows, highs, total)
