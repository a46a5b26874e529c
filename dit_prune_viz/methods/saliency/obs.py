"""OBS, the optimal brain surgeon's saliency on a layer's Hessian, as SparseGPT writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.saliency.base import check_fit, power_product


@dataclass(frozen=True)
class OBS:
    """I_ij = W_ij² / [H⁻¹]_jj^power, with H = Σ_t α_t X_tᵀX_t of the layer's inputs (arXiv 2301.00774, Algorithm 1).

    power = 2 is the formula as SparseGPT and OBS-Diff print it; power = 1 is twice the error that removing the weight
    alone costs when all the others make up for it (Hassibi & Stork 1992). Each weight is judged as the first to go.
    UserError for a power that is negative or not finite.
    """

    power: float = 2.0
    statistic: ClassVar[str] = "inverse_hessian"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power) and self.power >= 0):
            raise UserError(f"The power of the OBS saliency must be finite and not negative, but it is {self.power}.")

    @property
    def name(self) -> str:
        return "obs" if self.power == 2 else f"OBS power={self.power:g}"

    def score(self, weight: Tensor, inverse_diagonal: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32 from weights (d_out, d_in) and the diagonal of H⁻¹ (d_in,).

        UserError on mismatched shapes, and where the diagonal is not above 0, as it is for every invertible Hessian.
        """
        check_fit(weight, inverse_diagonal)
        if bool((inverse_diagonal <= 0).any()):
            raise UserError("The inverse Hessian has a diagonal that is not above 0; invert it with more damping.")
        return power_product(weight, inverse_diagonal, 2.0, -self.power)
