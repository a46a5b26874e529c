"""Four small layers with weights and norms, to plan and mask without a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.pruning.plan import PruningPlan


@dataclass(frozen=True)
class Named:
    name: str


SHAPES = {"adaLN": (24, 10), "q": (10, 10), "mlp in": (40, 10), "mlp out": (10, 40)}
LAYERS = [Named(name) for name in SHAPES]
_GENERATOR = torch.Generator().manual_seed(7)
WEIGHTS = {name: torch.randn(shape, generator=_GENERATOR) * 0.1 for name, shape in SHAPES.items()}
WEIGHTS["adaLN"] *= torch.logspace(-1, 0, 24)[:, None]
NORMS = {name: torch.rand(shape[1], generator=_GENERATOR) * 20 + 1 for name, shape in SHAPES.items()}


def mean_square(name: str) -> torch.Tensor:
    return NORMS[name] ** 2 / 128


def plan(**options) -> PruningPlan:
    return make_plan(LAYERS, WEIGHTS.__getitem__, NORMS.__getitem__, **options)


def masks_of(made: PruningPlan, **options):
    return build_masks(made, WEIGHTS.__getitem__, NORMS.__getitem__, **options)
