"""Bias compensation: weights stay, biases make up for the mean output that a mask takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.methods.problem import LayerProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.update.base import Update


@register
@dataclass(frozen=True)
class Mean(Update):
    """b' = b + (W ∘ ¬M)·E[x], the bias compensation of FLAP (An et al., arXiv 2312.11983), for unstructured masks."""

    name: ClassVar[str] = "mean"
    label: ClassVar[str] = "Correct biases for the lost mean"
    formula: ClassVar[str] = "b + (W ∘ ¬M)·E[x]"
    paper: ClassVar[str] = "arXiv 2312.11983"

    @property
    def moves_weights(self) -> bool:
        return False

    def update_layer(self, problem: LayerProblem, keep: Tensor) -> None:
        return None
