"""Wanda: weight times activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.methods.saliency.base import power_product


@dataclass(frozen=True)
class Wanda:
    """I_ij = |W_ij| · ‖X_j‖₂ (arXiv 2306.11695); STW with (m, n) = (1, 1)."""

    statistic: ClassVar[str] = "norm"

    @property
    def name(self) -> str:
        return "wanda"

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32 from weights (d_out, d_in) and norms (d_in,). UserError on mismatched shapes."""
        return power_product(weight, norm, 1.0, 1.0)
