"""Global ranking: the saliencies of all layers in one list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.budget import bounds, fill
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.registry import register

NORMALISATIONS = ("none", "mean", "root", "sum")
"""What a layer's saliencies are divided by: 1, their mean, their sum ÷ √weights, or their sum."""


@register
@dataclass(frozen=True)
class GlobalRanking(Allocation):
    """Every layer loses as many weights as it has among the smallest scores of the whole model.

    Attributes:
        normalise: what scores are divided by, one of NORMALISATIONS; the quotient is multiplied by the layer's weight.

    Raises:
        UserError: an unknown normalisation.
    """

    name: ClassVar[str] = "global"
    label: ClassVar[str] = "Global ranking"
    formula: ClassVar[str] = "one ranking of all layers’ scores"

    normalise: str = option("mean", "Scores divided by", choices=NORMALISATIONS)

    def __post_init__(self) -> None:
        if self.normalise not in NORMALISATIONS:
            choices = ", ".join(NORMALISATIONS)
            raise UserError(f"There is no normalisation {brief(self.normalise)} of scores; choose one of {choices}.")

    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """As `Allocation.counts`."""
        lows, highs = bounds(costs, total)
        prices = [cost.scores * (cost.weight / (self._divisor(cost) or 1.0)) for cost in costs]
        return fill(costs, [cost.removed for cost in costs], prices, lows, highs, total)

    def _divisor(self, cost: LayerCost) -> float:
        if self.normalise == "none":
            return 1.0
        return cost.mean_score * {"mean": 1, "root": math.sqrt(cost.weights), "sum": cost.weights}[self.normalise]
