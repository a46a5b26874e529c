"""What every granularity has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from dit_prune_viz.methods.base import Method


class Granularity(Method, ABC):
    """Says for every layer inside which groups of its weights the scores are ranked."""

    kind: ClassVar[str] = "granularity"

    @abstractmethod
    def choose(self, g_out: Mapping[str, float]) -> dict[str, str]:
        """The groups of every layer.

        Args:
            g_out: layer → G_out, the heterogeneity of its output rows, no unit.

        Returns:
            layer → "layer", "row" or "column".
        """
