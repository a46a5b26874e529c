"""A pruned model in a second: four calibration inputs, two steps."""

from __future__ import annotations

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

QUICK = Recipe("magnitude", sparsity=0.6)
UPDATED = Recipe("magnitude", sparsity=0.6, centred=True, update="least-squares")
"""Moves kept weights and biases."""


def quickly_pruned(model: Model, recipe: Recipe = QUICK) -> PrunedModel:
    statistics = Statistics(model, calibrate(model, samples=4, steps=2, prompts=model.defaults.prompts[:1]))
    return prune(model, recipe, statistics=statistics)
