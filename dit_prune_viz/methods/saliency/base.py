"""What every saliency has in common: the base class, the power product, and the check of its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.row_pieces import row_pieces
from dit_prune_viz.methods.base import Method
from dit_prune_viz.pipelines.float64 import float64_capable


class Saliency(Method, ABC):
    """Gives every weight of a Linear layer a score; the smallest scores are pruned.

    Attributes:
        granularity: what the recipe's granularity "auto" means for it.
        prunes: whether any weight goes; False makes every recipe's sparsity 0.
    """

    kind: ClassVar[str] = "saliency"
    granularity: ClassVar[str] = "cag"
    prunes: ClassVar[bool] = True

    @abstractmethod
    def score(self, weight: Tensor, *statistics: Tensor) -> Tensor:
        """Scores of all weights.

        Args:
            weight: (d_out, d_in), only read.
            statistics: the statistics in `needs`, in that order, each (d_in,).

        Returns:
            (d_out, d_in), finite; converted to float32.
        """

    @property
    def exponents(self) -> tuple[float, float] | None:
        """(m, n) of a score |W|^m · ‖X‖^n, which can be drawn as a straight line; None for any other."""
        return None


def check_fit(weight: Tensor, statistic: Tensor) -> None:
    """Check that a statistic belongs to a layer's inputs.

    Raises:
        UserError: unless `weight` is (d_out, d_in) and `statistic` (d_in,).
    """
    if weight.ndim != 2 or statistic.shape != weight.shape[1:]:
        raise UserError(
            f"Weights of shape {tuple(weight.shape)} and input statistics of shape {tuple(statistic.shape)} do not "
            "belong together; calibrate the model that is loaded."
        )


def power_product(weight: Tensor, norm: Tensor | None, m: float, n: float) -> Tensor:
    """|W_ij|^m · ‖X_j‖₂^n in float32, whatever the dtype of the weights, on their device (see `float64_capable`).

    Args:
        weight: (d_out, d_in), only read.
        norm: (d_in,), only read; None where n is 0.
        m: exponent of the weights.
        n: exponent of the norms.

    Raises:
        UserError: shapes that do not fit.
    """
    weight = float64_capable(weight)
    scores = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    if n:
        check_fit(weight, norm)
        factor = norm.detach().to(scores).pow(n)
    for part, of in row_pieces(scores, weight):
        part.copy_(of).abs_().pow_(m)
        if n:
            part.mul_(factor)
    return scores


def layer_scores(saliency: Saliency, layer: str, weight: Tensor, statistics: Mapping[str, Tensor]) -> Tensor:
    """The scores of one layer, checked.

    Args:
        saliency: what scores.
        layer: its name, for the error.
        weight: (d_out, d_in), only read.
        statistics: name → (d_in,), at least those in `saliency.needs`.

    Returns:
        (d_out, d_in) float32, contiguous.

    Raises:
        UserError: scores of another shape, or NaN or infinite.
    """
    scores = saliency.score(weight, *(statistics[name] for name in saliency.needs))
    if not isinstance(scores, Tensor) or scores.shape != weight.shape:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(
            f"The saliency {saliency.name} returns {shape} for layer {layer}; it must return a tensor of the weight's "
            f"shape, {tuple(weight.shape)}."
        )
    scores = scores.detach().to(torch.float32).contiguous()
    if not scores.numel() or torch.isfinite(torch.stack(scores.aminmax())).all():
        return scores
    if not torch.isfinite(weight.detach()).all():
        raise UserError(f"Layer {layer} has NaN or infinite weights; load an intact model, or another dtype of it.")
    for name in saliency.needs:
        if not torch.isfinite(statistics[name]).all():
            what = name.replace("_", " ").replace("hessian", "Hessian")
            raise UserError(f"Layer {layer} has a NaN or infinite {what}; calibrate again, in float32 or bfloat16.")
    raise UserError(
        f"{saliency.title} gives layer {layer} scores that are NaN or too large for float32; choose smaller exponents, "
        "or another formula."
    )
