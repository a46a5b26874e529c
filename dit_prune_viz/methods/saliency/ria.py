"""RIA, relative importance and activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.saliency.base import check_fit
from dit_prune_viz.pipelines.float64 import float64_capable


@dataclass(frozen=True)
class RIA:
    """I_ij = (|W_ij| / Σ_j|W_ij| + |W_ij| / Σ_i|W_ij|) · ‖X_j‖₂^a (Zhang et al., ICLR 2024; they take a = 0.5).

    A weight counts by its share of its row and of its column, so that no channel is pruned away whole. UserError for
    an exponent that is negative or not finite.
    """

    a: float = 0.5
    statistic: ClassVar[str] = "norm"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and self.a >= 0):
            raise UserError(f"RIA's exponent a must be finite and not negative, but it is {self.a}.")

    @property
    def name(self) -> str:
        return "ria" if self.a == 0.5 else f"RIA a={self.a:g}"

    def score(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Scores (d_out, d_in) float32 from weights (d_out, d_in) and norms (d_in,); rows and columns of zeros score 0.

        UserError on mismatched shapes.
        """
        check_fit(weight, norm)
        size = float64_capable(weight).to(torch.float32).abs()
        rows, columns = (size.sum(dim, keepdim=True, dtype=torch.float64).float() for dim in (1, 0))
        # Where a sum is 0 so is the weight; a denominator of 1 keeps its share at 0.
        scores = size / rows.masked_fill_(rows == 0, 1)
        scores += size.div_(columns.masked_fill_(columns == 0, 1))
        return scores.mul_(norm.detach().to(scores).pow(self.a))
