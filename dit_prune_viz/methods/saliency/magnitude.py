"""Magnitude: the size of the weight alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.methods.saliency.base import power_product


@dataclass(frozen=True)
class Magnitude:
    """I_ij = |W_ij|; STW with (m, n) = (1, 0). The activations play no part."""

    statistic: ClassVar[str] = "norm"

    @property
    def name(self) -> str:
        return "magnitude"

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32; `norm` (d_in,) is not used. UserError on mismatched shapes."""
        return power_product(weight, norm, 1.0, 0.0)
