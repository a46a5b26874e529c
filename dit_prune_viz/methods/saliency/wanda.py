"""Wanda: weight times activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency, power_product


@register
@dataclass(frozen=True)
class Wanda(Saliency):
    """I_ij = |W_ij| · ‖X_j‖₂ (arXiv 2306.11695)."""

    name: ClassVar[str] = "wanda"
    label: ClassVar[str] = "Wanda"
    formula: ClassVar[str] = "|W|·‖X‖"
    paper: ClassVar[str] = "arXiv 2306.11695"
    needs: ClassVar[tuple[str, ...]] = ("norm",)
    granularity: ClassVar[str] = "row"

    @property
    def exponents(self) -> tuple[float, float]:
        return 1.0, 1.0

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        return power_product(weight, norm, 1.0, 1.0)
