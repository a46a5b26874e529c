"""Hundreds of recipes that nobody would write in good faith: each is a recipe, or one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hostile_recipes import outcome, recipes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import recipe_text


@pytest.fixture(scope="module")
def whole(flux) -> str:
    """A sound recipe with two clusters by hand."""
    statistics = Statistics(flux, calibrate(flux, samples=8, seed=0))
    made = prune(flux, Recipe(ignore="adaLN", calibration=CalibrationSettings(samples=8)), statistics=statistics)
    layer = flux.layers[1]
    clusters = Clusters("row", "kmeans", np.arange(layer.shape[0]) % 2, 2)
    plan = made.plan.with_clusters(layer.name, clusters).with_cluster_sparsity(layer.name, 1, 0.8)
    return recipe_text(replace(made, plan=plan), flux)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data(), carry_over=st.booleans())
def test_every_recipe_is_one_or_is_refused(flux, whole, data, carry_over):
    _, text = data.draw(recipes(whole))
    outcome(text, flux, carry_over=carry_over)


def test_a_sound_recipe_is_one(flux, whole):
    assert outcome(whole, flux, carry_over=False) == "recipe"
