"""RIA, relative importance and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.methods.base import finite, option
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency, check_fit
from dit_prune_viz.pipelines.float64 import float64_capable


@register
@dataclass(frozen=True)
class RIA(Saliency):
    """I_ij = (|W_ij| / Σ_j|W_ij| + |W_ij| / Σ_i|W_ij|) · ‖X_j‖₂^a (Zhang et al., ICLR 2024; they take a = 0.5).

    A weight counts by its share of its row and of its column, so that no channel is pruned away whole. Rows and columns
    of zeros score 0.

    Raises:
        UserError: an exponent that is negative or not finite.
    """

    name: ClassVar[str] = "ria"
    label: ClassVar[str] = "RIA"
    formula: ClassVar[str] = "(|W|/row sum + |W|/column sum)·‖X‖^a"
    paper: ClassVar[str] = "Zhang et al., ICLR 2024"
    needs: ClassVar[tuple[str, ...]] = ("norm",)
    granularity: ClassVar[str] = "row"

    a: float = option(0.5, "a, of ‖X‖", low=0, high=2, step=0.1)

    def __post_init__(self) -> None:
        finite(self.a, "RIA's exponent a")

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        check_fit(weight, norm)
        size = float64_capable(weight).to(torch.float32).abs()
        rows, columns = (size.sum(dim, keepdim=True, dtype=torch.float64).float() for dim in (1, 0))
        # Where a sum is 0 so is the weight; a denominator of 1 keeps its share at 0.
        scores = size / rows.masked_fill_(rows == 0, 1)
        scores += size.div_(columns.masked_fill_(columns == 0, 1))
        return scores.mul_(norm.detach().to(scores).pow(self.a))
