"""What every allocation has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.base import Method


class Allocation(Method, ABC):
    """Decides how many weights every layer loses.

    Attributes:
        exact: whether it shares the budget out to one weight; without, every group loses the recipe's sparsity, rounded
            down.
        by_size: whether layers count by their number of weights where no measured sensitivity says how much they count.
    """

    kind: ClassVar[str] = "allocation"
    exact: ClassVar[bool] = True
    by_size: ClassVar[bool] = False

    @property
    def outlier_level(self) -> float:
        """Scores above this multiple of a layer's mean count as outliers in `LayerCost.outlier_share`."""
        return 5.0

    @abstractmethod
    def counts(self, costs: Sequence[LayerCost], total: int) -> dict[str, int]:
        """How many weights each layer loses.

        Args:
            costs: what removing weights costs each layer, see `LayerCost`.
            total: how many weights go in all.

        Returns:
            layer → count, `total` in all.

        Raises:
            UserError: floors or ceilings forbid the total.
        """
