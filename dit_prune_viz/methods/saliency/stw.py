"""STW, the squared transformation on weights: the saliency of DiT-Pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.base import finite, option
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency, power_product


@register
@dataclass(frozen=True)
class STW(Saliency):
    """I_ij = |W_ij|^m · ‖X_j‖₂^n (arXiv 2607.00927). The paper takes m = 2, n = 1.

    Inside one group only the ratio m/n decides the ranking. With (2, 2) the score is exactly the squared output error
    of removing the weight while all others stay.

    Raises:
        UserError: an exponent that is negative or not finite, or both zero.
    """

    name: ClassVar[str] = "stw"
    label: ClassVar[str] = "STW"
    formula: ClassVar[str] = "|W|^m·‖X‖^n"
    paper: ClassVar[str] = "arXiv 2607.00927"
    needs: ClassVar[tuple[str, ...]] = ("norm",)

    m: float = option(2.0, "m, of |W|", low=0, high=4, step=0.25)
    n: float = option(1.0, "n, of ‖X‖", low=0, high=4, step=0.25)

    def __post_init__(self) -> None:
        finite(self.m, "The exponent m")
        finite(self.n, "The exponent n")
        if self.m == self.n == 0:
            raise UserError("With both exponents 0 all scores are equal; set m or n above 0.")

    @property
    def exponents(self) -> tuple[float, float]:
        return self.m, self.n

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        return power_product(weight, norm, self.m, self.n)
