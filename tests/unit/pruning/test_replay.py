"""What was set by hand replays bit for bit from a recipe's text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_edits import random_session

from dit_prune_viz.app.session.cluster_edits import set_sparsity, tag_cluster
from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_io import open_recipe, save_recipe_text, with_clusters
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import read_recipe, recipe_text

SEEDS = 100


def same_masks(first, second) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name].bits, second[name].bits) for name in first)


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux):
    return Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux)).calibrate(8, 0)


@pytest.mark.parametrize("start", range(0, SEEDS, 10))
def test_random_recipes_replay_bit_for_bit(ready, start):
    fresh = ready.model.also_pruning(())  # the same weights without anything that follows from them
    statistics = Statistics(fresh, ready.calibration)
    for seed in range(start, start + 10):
        session = random_session(seed, ready)
        text = save_recipe_text(session)
        carried = read_recipe(text, fresh)
        assert carried.dropped == ()
        again = prune(fresh, carried.recipe, statistics=statistics)
        assert same_masks(session.masks, again.packed_masks), seed
        expected = with_clusters(session).plan
        assert again.plan == expected, seed
        assert again.report == session.report, seed
        assert Recipe.from_json(carried.recipe.to_json()) == carried.recipe
        assert recipe_text(again, fresh) == text
        if seed % 10 == 0:
            opened, notes = open_recipe(ready, text)
            assert notes == ()
            assert same_masks(session.masks, opened.masks)
            assert opened.report == session.report
            assert save_recipe_text(opened) == text


def test_a_plan_without_anything_set_by_hand_has_the_recipe_it_was_made_from(ready):
    for recipe in (Recipe(), Recipe("wanda", "2:4"), Recipe(allocation="owl", ignore="adaLN", threshold=0.2)):
        recipe = replace(recipe, calibration=ready.recipe.calibration)
        assert ready.prune(recipe).plan.as_recipe() == recipe


def test_the_bundled_model_replays_what_the_app_has_done(bundled):
    store = ModelStore(clip="assets/emoji-clip", device="cpu", dtype="float32")
    recipe = Recipe(sparsity=0.6, allocation="tempered:0.6", granularity="cag", bounds={"adaLN": (0, 0.4)})
    statistics = Statistics(bundled, calibrate_for(bundled, recipe))
    session = replace(Session(store), model=bundled, statistics=statistics, recipe=recipe).prune(recipe)
    first, second = bundled.layers[2].name, bundled.layers[-1].name
    session = set_sparsity(session.cluster(first, "row", "kmeans", 4), first, 1, 0.93)
    session = tag_cluster(session, first, 1, name="edges", locked=True)
    session = set_sparsity(session, first, 2, 0.3, keep_layer=True)
    session = set_sparsity(session.cluster(second, "row", "kmeans", 3), second, 0, 0.1)
    session = set_threshold(set_sparsity(session.cluster(second, "column"), second, 3, 0.8), 0.0)
    text = save_recipe_text(session)
    again = prune(bundled.also_pruning(()), read_recipe(text, bundled).recipe)
    assert same_masks(session.masks, again.packed_masks)
    assert again.report == session.report
    assert len(text) < 3_000_000


def test_searches_and_updates_see_the_same_plan(ready):
    layer = ready.model.layers[1].name
    recipe = Recipe(search=("swap",), update="mean", calibration=ready.recipe.calibration, ignore="block 1")
    session = set_sparsity(ready.prune(recipe).cluster(layer, "row", "kmeans", 2), layer, 0, 0.8)
    made = prune(ready.model, session.plan.as_recipe(), statistics=ready.statistics)
    done = finish(session)
    for name, one in done.layers.items():
        other = made.layers[name]
        assert torch.equal(one.mask.bits, other.mask.bits)
        assert (one.bias is None) == (other.bias is None)
        assert one.bias is None or torch.equal(one.bias, other.bias)
        if ready.model.layer(name).block == 1:
            assert other.mask.removed == 0
            assert not other.updated
    assert any(one.updated for one in made.layers.values())


@pytest.mark.parametrize("update", ["mean", "least-squares", "tuned:2"])
def test_layers_that_stay_dense_keep_weights_and_biases(ready, update):
    recipe = Recipe(update=update, sequential=True, ignore="adaLN", calibration=ready.recipe.calibration)
    made = prune(ready.model, recipe, statistics=ready.statistics)
    for layer in ready.model.layers:
        one = made.layers[layer.name]
        assert (one.mask.removed == 0 and not one.updated) == (layer.kind == "adaLN")


def test_another_sparsity_starts_layers_anew(ready):
    layer = ready.model.layers[0].name
    session = set_sparsity(ready.cluster(layer), layer, 0, 0.9)
    recipe = session.plan.as_recipe()
    assert [one.name for one in recipe.tuned] == [layer]
    assert recipe.at(recipe.sparsity) == recipe
    assert recipe.at(0.7) == replace(ready.plan.as_recipe(), sparsity=0.7)
    assert recipe.at("2:4").tuned == ()
