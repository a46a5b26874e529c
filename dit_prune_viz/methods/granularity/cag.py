"""CAG, the clustering-aware granularity of DiT-Pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.methods.registry import register


@register
@dataclass(frozen=True)
class CAG(Granularity):
    """Layers whose G_out lies above a threshold are ranked row by row, all others as a whole (arXiv 2607.00927).

    The paper prints no threshold; `cag_threshold` finds one in the model's own values.
    """

    name: ClassVar[str] = "cag"
    label: ClassVar[str] = "CAG: by row heterogeneity"
    formula: ClassVar[str] = "row by row where G_out > threshold"
    paper: ClassVar[str] = "arXiv 2607.00927"

    def choose(self, g_out: Mapping[str, float], threshold: float | None = None) -> dict[str, str]:
        """As `Granularity.choose`, with the line at `threshold` instead of the model's own.

        Raises:
            UserError: a threshold that is negative or NaN, a G_out that is not finite.
        """
        if threshold is None:
            threshold = cag_threshold(g_out.values())
        if math.isnan(threshold) or threshold < 0:
            raise UserError(f"The G_out threshold must be 0 or more, but it is {threshold}.")
        return {name: "row" if value > threshold else "layer" for name, value in g_out.items()}
