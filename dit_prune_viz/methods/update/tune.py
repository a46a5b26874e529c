"""Kept weights that learn from what the dense model answers, under masks that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.calibration.distillation_set import DistillationSet
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.problem import ModelProblem
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.training import MOST_STEPS, Learner, learn
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.model import Model

TUNING_STEPS = 300
"""How long weights learn if nothing else is asked for."""


@register
@dataclass(frozen=True)
class Tune(Update):
    """Kept weights of all layers learn together from the dense model's outputs, see `tune_weights`.

    Raises:
        UserError: a number of steps out of range.
    """

    name: ClassVar[str] = "tuned"
    label: ClassVar[str] = "Fine-tune to match dense outputs"
    formula: ClassVar[str] = "kept weights follow ∂(output error)/∂W"
    needs: ClassVar[tuple[str, ...]] = ("mean",)
    version: ClassVar[int] = 2  # in version 1 the last step had a rate of 0

    steps: int = option(0, "Steps, 0 chooses", low=0, high=2000, step=50)

    def __post_init__(self) -> None:
        whole(self.steps, "The number of tuning steps", 0, MOST_STEPS)

    def learning_steps(self, searched: int) -> int:
        """A quarter of the masks' steps, which have more to choose; 300 after masks that did not learn."""
        return self.steps or (max(1, searched // 4) if searched else TUNING_STEPS)

    def update(self, problem: ModelProblem, masks: Mapping[str, PackedMask]) -> dict[str, PrunedLayer]:
        known, timestep = problem.statistics, problem.timestep
        return tune_weights(
            known.model,
            masks,
            problem.examples,
            mean=lambda layer: known.mean(layer, timestep),
            timestep=known.weights(timestep),
            steps=problem.steps,
            progress=problem.progress,
        )


def tune_weights(
    model: Model,
    masks: Mapping[str, PackedMask],
    examples: DistillationSet,
    *,
    mean: Callable[[str], Tensor] | None = None,
    timestep: Sequence[float] | None = None,
    steps: int = TUNING_STEPS,
    rate: float = 0.008,
    progress: Progress | None = None,
) -> dict[str, PrunedLayer]:
    """Values for the kept weights under which the transformer answers as the dense one does; masks stay.

    In each step the pruned model sees one call of `examples`, and the kept weights of all layers follow the gradient of
    its error (see `learn`). Least squares fits every layer to its own outputs; here layers make up for each other. No
    picture is learned from, only the dense model's answers. An extension of this project.

    Memory beside the model: as in `distil_masks`, and the result.

    Args:
        model: only read; its lock is held meanwhile.
        masks: layer -> mask.
        examples: inputs to learn from, see `record_distillation_set`.
        mean: E[x_j] (d_in,) of a layer, if its bias makes up for the mean output that pruned and moved weights take
            away; None where biases stay.
        timestep: α of the timestep bins of `examples`; None weighs all alike.
        steps: calls to learn from, each as often as the next.
        rate: of the weights, in mean |W| of the layer's kept ones at first; falls as in `learn`.
        progress: called after every step; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, outputs or gradients that are not finite, too little memory.
    """
    steps = whole(steps, "The number of tuning steps", 1, MOST_STEPS)
    if not any(mask.removed for mask in masks.values()):
        return {}

    def start() -> dict[str, _Layer]:
        return {name: _Layer(model, name, mask, mean) for name, mask in masks.items()}

    learned = learn(
        model,
        examples,
        start,
        timestep=timestep,
        steps=steps,
        rate=rate,
        seed=1,  # another order than that in which masks may have learned from the same calls
        what="Tuning weights",
        progress=progress,
    )
    return {name: layer.result() for name, layer in learned.items()}


class _Layer(Learner):
    """The values (d_out, d_in) float32 of one layer's kept weights, zero elsewhere."""

    def __init__(self, model: Model, name: str, mask: PackedMask, mean: Callable[[str], Tensor] | None) -> None:
        super().__init__(model, name, mean)
        self.mask, self.keep = mask, mask.to(self.weight.device).unpack()
        self.values = self.weight.float() * self.keep
        self.size = float(self.values.abs().sum()) / max(1, mask.kept)

    def present(self) -> Tensor:
        return self.values.to(self.weight.dtype, copy=True)

    def note(self, gradient: Tensor) -> None:
        super().note(gradient * self.keep)

    def move(self, rate: float, step: int) -> None:
        """Change the kept weights."""
        self.follow(self.values, rate * self.size, step)

    @torch.no_grad()
    def result(self) -> PrunedLayer:
        """The layer as it is now; its bias has what `Learner` gave it less what the kept weights still bring."""
        bias = None if self.mean is None else self.bias.float() - self.values @ self.mean.float()
        return compact(self.values, self.mask, self.weight.dtype, bias)
