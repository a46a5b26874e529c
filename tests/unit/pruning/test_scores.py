"""A layer is scored once for planning, sharing out the budget and masking."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.methods.saliency.magnitude import Magnitude
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.scores import Scores


@pytest.fixture
def model(tiny_flux):
    """A model of its own for every test: scores are kept with it."""
    return load_model(tiny_flux, device="cpu", dtype="float32")


@pytest.fixture
def statistics(model):
    return Statistics(model, calibrate(model, samples=4, steps=2))


@pytest.fixture
def scored(monkeypatch):
    """Address of the weights → how often they were scored."""
    times = Counter()
    for kind in (Magnitude, STW):

        def score(self, weight, *known, own=kind.score):
            times[weight.data_ptr()] += 1
            return own(self, weight, *known)

        monkeypatch.setattr(kind, "score", score)
    return times


@pytest.mark.parametrize("name", ["magnitude", "dit-pruning", "tempered", "swap"])
def test_every_layer_is_scored_once(model, statistics, scored, name):
    prune(model, name, sparsity=0.5, statistics=statistics)
    assert scored == {model.weight(layer.name).data_ptr(): 1 for layer in model.layers}
    prune(model, name, sparsity=0.7, statistics=statistics)  # at another sparsity none again
    assert set(scored.values()) == {1}


def test_other_scores_are_not_mistaken_for_known_ones(model, statistics):
    name = model.layers[0].name
    recipes = [
        Recipe("stw"),
        Recipe("stw:1.5,1"),
        Recipe("wanda"),
        Recipe("stw", timestep="log"),
        Recipe("stw", centred=True),
    ]
    for recipe in recipes * 2:
        m = {"stw": 2, "stw:1.5,1": 1.5, "wanda": 1}[recipe.saliency]
        expected = model.weight(name).abs() ** m * statistics.norm(name, recipe.timestep, centred=recipe.centred)
        torch.testing.assert_close(Scores(recipe, statistics)(name), expected)
    other = Statistics(model, calibrate(model, samples=6, steps=2))
    assert not torch.equal(Scores(recipes[0], other)(name), Scores(recipes[0], statistics)(name))
    assert Scores(recipes[0], statistics)(name) is Scores(recipes[0], statistics)(name)


def test_scores_of_a_large_model_are_computed_again_but_for_the_layer_on_view(model, statistics, scored):
    model.cache.limit = 8 * model.prunable_parameters  # the scores alone would take half of it
    name = model.layers[0].name
    scores = Scores(Recipe(), statistics)
    assert torch.equal(scores(name), scores(name))
    assert scored[model.weight(name).data_ptr()] == 2
    assert scores.kept(name) is scores.kept(name)
    assert scored[model.weight(name).data_ptr()] == 3


@pytest.mark.parametrize(("name", "measured"), [("dit-pruning", 1), ("tempered", 2)])
def test_a_large_model_is_measured_once_and_masked_at_every_sparsity(model, statistics, scored, name, measured):
    model.cache.limit = 8 * model.prunable_parameters
    prune(model, name, sparsity=0.5, statistics=statistics)
    assert set(scored.values()) == {measured + 1}
    prune(model, name, sparsity=0.7, statistics=statistics)
    assert set(scored.values()) == {measured + 2}
