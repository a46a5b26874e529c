"""STW, the squared transformation on weights: the saliency of DiT-Pruning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.saliency.base import power_product


@dataclass(frozen=True)
class STW:
    """I_ij = |W_ij|^m · ‖X_j‖₂^n (arXiv 2607.00927). The paper takes m = 2, n = 1; both exponents are free here.

    Inside one group only the ratio m/n decides the ranking. UserError for exponents that are negative, not finite, or
    both zero.
    """

    m: float = 2.0
    n: float = 1.0
    statistic: ClassVar[str] = "norm"

    def __post_init__(self) -> None:
        for exponent in (self.m, self.n):
            if not (math.isfinite(exponent) and exponent >= 0):
                raise UserError(f"The exponents m and n must be finite and not negative, but one is {exponent}.")
        if self.m == self.n == 0:
            raise UserError("With both exponents 0 all saliencies are equal; set m or n above 0.")

    @property
    def name(self) -> str:
        return "dit-pruning" if (self.m, self.n) == (2.0, 1.0) else f"STW m={self.m:g} n={self.n:g}"

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32 from weights (d_out, d_in) and norms (d_in,). UserError on mismatched shapes."""
        return power_product(weight, norm, self.m, self.n)
