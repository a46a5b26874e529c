"""Four small layers with weights and norms, to plan and mask without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.saliency.base import Saliency, layer_scores
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.pruning.measures import Measures
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe import Recipe


@dataclass(frozen=True)
class Named:
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        return SHAPES[self.name]

    @property
    def kind(self) -> str:
        return self.name

    @property
    def block(self) -> int:
        return list(SHAPES).index(self.name) // 2

    @property
    def place(self) -> str:
        return f"block {self.block}"


SHAPES = {"adaLN": (24, 10), "q": (10, 10), "mlp in": (40, 10), "mlp out": (10, 40)}
LAYERS = [Named(name) for name in SHAPES]
_GENERATOR = torch.Generator().manual_seed(7)
WEIGHTS = {name: torch.randn(shape, generator=_GENERATOR) * 0.1 for name, shape in SHAPES.items()}
WEIGHTS["adaLN"] *= torch.logspace(-1, 0, 24)[:, None]
NORMS = {name: torch.rand(shape[1], generator=_GENERATOR) * 20 + 1 for name, shape in SHAPES.items()}
INVERSES = {name: 1 / (norm**2 / 128 + 0.1) for name, norm in NORMS.items()}


def mean_square(name: str) -> torch.Tensor:
    return NORMS[name] ** 2 / 128


def scores_of(saliency: str, weights=WEIGHTS) -> Callable[[str], torch.Tensor]:
    method = find_method(Saliency, saliency)
    return lambda name: layer_scores(
        method, name, weights[name], {"norm": NORMS[name], "inverse_hessian": INVERSES[name]}
    )


def plan(layers=LAYERS, weights=WEIGHTS, squares=mean_square, sensitivity=None, progress=None, **recipe) -> PruningPlan:
    """A plan by the recipe with these fields."""
    made = Recipe(**recipe)
    scores = scores_of(made.saliency, weights)
    measures = Measures(weights.__getitem__, scores, squares)
    return make_plan(made, layers, measures, sensitivity=sensitivity, progress=progress)


def masks_of(made: PruningPlan, **options):
    return build_masks(made, scores_of(made.recipe.saliency), **options)
