"""OBS, the optimal brain surgeon's saliency on a layer's Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency, check_fit, power_product


@register
@dataclass(frozen=True)
class OBS(Saliency):
    """I_ij = W_ij² / [H⁻¹]_jj with H = Σ_t α_t·X_tᵀX_t of the layer's inputs (Hassibi & Stork 1992).

    It is the squared output error that removing the weight costs once all others of its row make up for it. SparseGPT
    (arXiv 2301.00774) and OBS-Diff (arXiv 2510.06751) divide by the squared diagonal of the Cholesky factor of H⁻¹,
    which is the [H⁻¹]_jj of the columns they have not passed yet; here each weight is judged as the first to go.
    """

    name: ClassVar[str] = "obs"
    label: ClassVar[str] = "OBS"
    formula: ClassVar[str] = "W²/[H⁻¹]ⱼⱼ"
    paper: ClassVar[str] = "Hassibi & Stork 1992"
    needs: ClassVar[tuple[str, ...]] = ("inverse_hessian",)
    granularity: ClassVar[str] = "layer"
    version: ClassVar[int] = 2  # version 1 divided by the square of the diagonal

    def score(self, weight: Tensor, inverse_hessian: Tensor) -> Tensor:
        check_fit(weight, inverse_hessian)
        if bool((inverse_hessian <= 0).any()):
            raise UserError("The inverse Hessian has a diagonal that is not above 0; invert it with more damping.")
        return power_product(weight, inverse_hessian, 2.0, -1.0)
