"""Masks learned from what the dense model answers; no number of the model moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.calibration.distillation_set import DistillationSet
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.problem import ModelProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.search.base import Search
from dit_prune_viz.methods.training import MOST_STEPS, Learner, learn
from dit_prune_viz.pipelines.model import Model


@register
@dataclass(frozen=True)
class Distil(Search):
    """Masks learn from the dense model's outputs, see `distil_masks`.

    Raises:
        UserError: a number of steps out of range.
    """

    name: ClassVar[str] = "distil"
    label: ClassVar[str] = "Distil masks"
    formula: ClassVar[str] = "scores follow ∂(output error)/∂mask"
    needs: ClassVar[tuple[str, ...]] = ("norm", "mean")
    version: ClassVar[int] = 2  # in version 1 the last step had a rate of 0

    steps: int = option(400, "Steps", low=1, high=2000, step=50)

    def __post_init__(self) -> None:
        whole(self.steps, "The number of distillation steps", 1, MOST_STEPS)

    @property
    def learning_steps(self) -> int:
        return self.steps

    def improve(self, problem: ModelProblem, masks: Mapping[str, PackedMask]) -> dict[str, PackedMask]:
        known, timestep = problem.statistics, problem.timestep
        return distil_masks(
            known.model,
            problem.plans,
            masks,
            problem.examples,
            norm=lambda layer: known.norm(layer, timestep, centred=problem.moves_biases),
            mean=(lambda layer: known.mean(layer, timestep)) if problem.moves_biases else None,
            timestep=known.weights(timestep),
            steps=problem.steps,
            progress=problem.progress,
        )


def distil_masks(
    model: Model,
    plans: Mapping[str, LayerPlan],
    masks: Mapping[str, PackedMask],
    examples: DistillationSet,
    *,
    norm: Callable[[str], Tensor],
    mean: Callable[[str], Tensor] | None = None,
    timestep: Sequence[float] | None = None,
    steps: int = 150,
    rate: float = 0.01,
    progress: Progress | None = None,
) -> dict[str, PackedMask]:
    """Masks with the counts of `plans` under which the transformer answers as the dense one does.

    Every weight has a score, and of each layer those with the highest stay, as many as the plan says; clusters with a
    sparsity of their own and N:M keep their counts, while rows and columns may lose more or less than `masks` took
    from them: what a saliency cannot compare between rows the gradients can. In each step the pruned model sees one
    call of `examples`, and all scores, also those of pruned weights, follow the gradient of its error (see `learn`) by
    how much they are there: straight through the selection, as in arXiv 1911.13299 and, for N:M, arXiv 2409.17481. A
    saliency looks at a weight alone and a swap at a row alone; here errors of different layers cancel too. An
    extension of this project.

    Memory beside the model: 12 bytes for each weight of a pruned layer, its pruned copy and gradient, and the
    activations of one call; models above a billion parameters recompute those (gradient checkpointing).

    Args:
        model: only read; its lock is held meanwhile.
        plans: layer -> what it, each of its clusters or each group of N:M loses.
        masks: of the plans, where learning starts.
        examples: inputs to learn from, see `record_distillation_set`.
        norm: ‖X_j‖₂ (d_in,) of a layer: how far a weight is from changing sides at the start goes by |W|·‖X‖.
        mean: E[x_j] (d_in,) of a layer, if its bias is going to make up for the mean output that the mask takes away;
            None where biases stay.
        timestep: α of the timestep bins of `examples`; None weighs all alike.
        steps: calls to learn from, each as often as the next.
        rate: of the scores, in mean |W|·‖X‖ of the layer at first; falls as in `learn`.
        progress: called after every step; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, outputs or gradients that are not finite, too little memory.
    """
    steps = whole(steps, "The number of distillation steps", 1, MOST_STEPS)
    if not any(0 < mask.removed < mask.weights for mask in masks.values()):
        return dict(masks)

    def start() -> dict[str, _Layer]:
        return {
            name: _Layer(model, plans[name], mask, norm(name), mean)
            for name, mask in masks.items()
            if 0 < mask.removed < mask.weights
        }

    learned = learn(
        model,
        examples,
        start,
        timestep=timestep,
        steps=steps,
        rate=rate,
        seed=0,
        what="Distilling masks",
        progress=progress,
    )
    return {name: pack(learned[name].keep) if name in learned else mask for name, mask in masks.items()}


class _Layer(Learner):
    """Scores of one layer's weights (d_out, d_in), above 0 where the first mask keeps."""

    def __init__(
        self,
        model: Model,
        plan: LayerPlan,
        mask: PackedMask,
        norm: Tensor,
        mean: Callable[[str], Tensor] | None,
    ) -> None:
        super().__init__(model, plan.name, mean)
        self.plan = plan = _pinned(plan, mask)
        self.keep = mask.to(self.weight.device).unpack()
        size = self.weight.float().abs() * norm.to(self.weight.device)
        size /= size.mean().clamp_min(torch.finfo(torch.float32).tiny)
        cut = size.masked_fill(mask_of_scores(plan, size), 0).amax(1, keepdim=True)
        margin = (size - cut).abs_() + torch.finfo(torch.float32).eps
        self.scores = torch.where(self.keep, margin, -margin)

    def present(self) -> Tensor:
        return self.weight * self.keep

    def note(self, gradient: Tensor) -> None:
        super().note(gradient * self.weight)

    def move(self, rate: float, step: int) -> None:
        """Change the scores, and the mask with them."""
        self.follow(self.scores, rate, step)
        self.keep = mask_of_scores(self.plan, self.scores)


def _pinned(plan: LayerPlan, mask: PackedMask) -> LayerPlan:
    """The same counts, as `mask` has them, wherever in the layer or its clusters; N:M stays N:M.

    Every cluster gets a sparsity: scores that change would otherwise move weights between those that have none.
    """
    plan = replace(plan, granularity=plan.granularity if n_of_m(plan.granularity) else "layer")
    labels = None if plan.clusters is None else plan.clusters.pinned_groups(mask.shape)
    if labels is None:
        return replace(plan, clusters=None, count=mask.removed)
    labels = labels.reshape(-1)
    sizes = np.bincount(labels)
    lost = np.bincount(labels, weights=~mask.unpack().cpu().numpy().reshape(-1))
    shares = np.minimum((lost + 0.5) / sizes, 1.0).tolist()  # ⌊size · share⌋ is the count
    return replace(plan, clusters=ClusterPlan("weight", labels, tuple(shares)))
