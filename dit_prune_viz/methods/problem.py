"""What searches and updates work on: one layer with its second moments, or the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dit_prune_viz.calibration.distillation_set import DistillationSet
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.layer_plan import LayerPlan

DAMPING = 0.1
"""λ/mean(diag H); with the usual 1 % the text stream's layers and the MLPs overfit 128 inputs of 16 prompts."""


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """One layer, as a search or an update that goes layer by layer sees it. All tensors are only read.

    Attributes:
        plan: what the layer loses, and in which groups.
        weight: (d_out, d_in), the dense weights.
        hessian: H = Σ_t α_t·X_tᵀX_t (d_in, d_in) float32 of its inputs, less their mean where the bias makes up for it.
        target: T = Σ_t α_t·Y_tᵀX_t (d_out, d_in), the outputs to reproduce times the inputs; None is W·H.
        damping: λ/mean(diag H) of H + λI.
    """

    plan: LayerPlan
    weight: Tensor
    hessian: Tensor
    target: Tensor | None = None
    damping: float = DAMPING


@dataclass(frozen=True, eq=False)
class ModelProblem:
    """The whole model, as a search or an update that looks at all layers together sees it.

    Attributes:
        statistics: of the model's inputs; `statistics.model` is the dense model, only read.
        plans: layer → what it loses, and in which groups.
        timestep: how the timestep bins are weighed.
        moves_biases: whether biases make up for the mean output that is lost.
        steps: of learning; 0 for a method that does not learn.
        examples: what to learn from in that many steps; None for a method that does not learn.
        progress: to be called with (done, total, what); may raise `Cancelled`.
    """

    statistics: Statistics
    plans: Mapping[str, LayerPlan]
    timestep: str = "uniform"
    moves_biases: bool = False
    steps: int = 0
    examples: DistillationSet | None = None
    progress: Progress | None = None
