"""Masks of a large model that wait until they are asked for: the same bits, counts that are exact, damage near it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled
from dit_prune_viz.masks.layer_plan import ClusterPlan
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.pruned_layers import PrunedLayers
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import prune, rank, rank_again
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.scores import Scores


@pytest.fixture(scope="module")
def statistics(tiny_flux):
    """Of a model that counts as large: its scores are not kept."""
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    known = Statistics(model, calibrate(model, samples=4, steps=2))
    model.cache.limit = 8 * model.prunable_parameters
    return known


RECIPES = (
    Recipe(),
    Recipe("wanda", "row"),
    Recipe("magnitude", "column"),
    Recipe("ria", "layer", allocation="tempered"),
    Recipe("stw", allocation="damage-aware", timestep="log", centred=True),
    Recipe("stw", granularity="2:4"),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=st.sampled_from(RECIPES), sparsity=st.floats(0, 1), order=st.randoms())
def test_masks_made_later_have_the_same_bits(statistics, recipe, sparsity, order):
    recipe = recipe if ":" in recipe.granularity else replace(recipe, sparsity=sparsity)
    now, later = rank(recipe, statistics), rank(recipe, statistics, later=True)
    assert later.plan.layers == now.plan.layers
    assert later.layers.made == {}
    assert later.nbytes == 0
    names = list(now.layers)
    order.shuffle(names)
    for name in names:
        assert later.packed_masks[name].digest == now.packed_masks[name].digest
    assert list(later.layers) == list(now.layers)
    assert later.nbytes == now.nbytes


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_counts_are_exact_and_damage_is_near(statistics, recipe):
    for sparsity in (0.3, 0.7):
        recipe = recipe if ":" in recipe.granularity else replace(recipe, sparsity=sparsity)
        now, later = rank(recipe, statistics).report, rank(recipe, statistics, later=True).report
        assert (now.estimated, later.estimated) == (False, True)
        assert (later.target, later.parameters, later.remaining) == (now.target, now.parameters, now.remaining)
        for a, b in zip(now.layers, later.layers, strict=True):
            assert replace(b, damage=a.damage, estimated=False) == a
        assert later.damage == pytest.approx(now.damage, rel=0.03)  # of layers of a few hundred weights


def test_only_large_models_wait_and_only_where_that_was_said(statistics, tiny_flux):
    assert len(prune(statistics.model, sparsity=0.5, statistics=statistics).layers.made) == len(statistics.model.layers)
    small = load_model(tiny_flux, device="cpu", dtype="float32")
    ranked = rank(Recipe(), Statistics(small, statistics.calibration), later=True)
    assert len(ranked.layers.made) == len(small.layers)
    assert not ranked.report.estimated


def test_another_sparsity_reads_no_weight(statistics, monkeypatch):
    rank(Recipe(sparsity=0.5), statistics, later=True)
    monkeypatch.setattr(type(statistics.model), "weight", None)
    assert rank(Recipe(sparsity=0.6), statistics, later=True).report.achieved == pytest.approx(0.6, abs=0.02)


def test_a_moved_threshold_keeps_what_is_made(statistics):
    first = rank(Recipe(sparsity=0.5), statistics, later=True)
    row = next(name for name, layer in first.plan.layers.items() if layer.granularity == "row")
    layer = next(name for name, layer in first.plan.layers.items() if layer.granularity == "layer")
    kept, _ = first.layers[row], first.layers[layer]
    moved = rank_again(first, first.plan.with_threshold(0.0), statistics, later=True)
    assert moved.layers.made == {row: kept}  # it was ranked by row before
    expected = rank(Recipe(sparsity=0.5, threshold=0.0), statistics)
    assert {n: mask.digest for n, mask in moved.packed_masks.items()} == {
        n: mask.digest for n, mask in expected.packed_masks.items()
    }
    assert [one.removed for one in moved.report.layers] == [one.removed for one in expected.report.layers]
    assert first.layers[row] is kept


def test_a_layer_with_clusters_is_masked_at_once(statistics):
    """How many weights it loses follows from its mask alone."""
    first = rank(Recipe(sparsity=0.5), statistics, later=True)
    name = statistics.model.layers[2].name
    rows = statistics.model.layers[2].shape[0]
    clusters = ClusterPlan("row", np.arange(rows) % 2, (0.25, None))
    plan = first.plan.with_layer(replace(first.plan.layer(name), clusters=clusters))
    again = rank_again(first, plan, statistics, later=True)
    assert list(again.layers.made) == [name]
    assert torch.equal(again.masks[name], mask_of_scores(plan.layer(name), Scores(plan.recipe, statistics)(name)))
    report = {one.name: one for one in again.report.layers}
    assert report[name].removed == again.layers[name].mask.removed
    assert [one for one, layer in report.items() if not layer.estimated] == [name]


def test_masks_are_made_with_progress_and_can_be_cancelled(statistics):
    ranked, told = rank(Recipe(sparsity=0.5), statistics, later=True), []
    names = list(ranked.layers)

    def stop(done: int, total: int, what: str) -> None:
        told.append((done, total, what))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        ranked.make_masks(stop)
    assert list(ranked.layers.made) == names[:2]
    assert told == [(i, len(names), f"Masking {names[i]}") for i in range(3)]
    told.clear()
    ranked.make_masks(lambda *step: told.append(step))
    assert len(ranked.layers.made) == len(names)
    assert told[0] == (0, len(names) - 2, f"Masking {names[2]}")
    ranked.make_masks(stop)  # nothing is left to do


def test_a_pruned_model_with_waiting_masks_runs(statistics):
    recipe = find_recipe("dit-pruning").at(0.6)
    model, name = statistics.model, statistics.model.layers[0].name
    module = model.transformer.get_submodule(name)
    x = torch.randn(2, module.in_features, generator=torch.Generator().manual_seed(0))
    outputs = []
    for later in (False, True):
        with rank(recipe, statistics, later=later):
            outputs.append(module(x))
    assert torch.equal(*outputs)


def layer_of(value: bool) -> PrunedLayer:
    return PrunedLayer(pack(torch.full((2, 4), value)))


def test_a_layer_is_made_once_however_many_ask():
    made, gate = [], threading.Barrier(4)

    def make() -> PrunedLayer:
        made.append(threading.get_ident())
        return layer_of(True)

    layers = PrunedLayers({"a": make, "b": layer_of(False)})
    copies = [layers, PrunedLayers(layers), layers.changed({"b": layer_of(True)}), layers.changed({})]
    found = []

    def ask(mapping: PrunedLayers) -> None:
        gate.wait()
        found.append(mapping["a"])

    threads = [threading.Thread(target=ask, args=(one,)) for one in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, found))) == 1
    assert (layers["b"].mask.kept, copies[2]["b"].mask.kept) == (0, 8)


def test_what_fails_is_tried_again():
    answers = [ValueError("no"), layer_of(True)]

    def make() -> PrunedLayer:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    layers = PrunedLayers({"a": make})
    with pytest.raises(ValueError, match="no"):
        _ = layers["a"]
    assert layers.made == {}
    assert layers["a"].mask.kept == 8
