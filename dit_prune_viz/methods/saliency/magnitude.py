"""Magnitude: the size of the weight alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency, power_product


@register
@dataclass(frozen=True)
class Magnitude(Saliency):
    """I_ij = |W_ij|. The activations play no part."""

    name: ClassVar[str] = "magnitude"
    label: ClassVar[str] = "Magnitude"
    formula: ClassVar[str] = "|W|"
    granularity: ClassVar[str] = "layer"

    @property
    def exponents(self) -> tuple[float, float]:
        return 1.0, 0.0

    def score(self, weight: Tensor) -> Tensor:
        return power_product(weight, None, 1.0, 0.0)
