"""Moving CAG's line: the masks are those of a plan made with it from the start, and nothing else moves."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import pruned_by
from small_plans import masks_of, plan

from dit_prune_viz.app.pages.map import view as map_figures
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Sensed, Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.app.widgets import threshold_line
from dit_prune_viz.errors import UserError

THRESHOLDS = st.one_of(st.floats(0, 10), st.sampled_from([0.0, 1e-300, 1e300]))


def same(masks, others) -> bool:
    return masks.keys() == others.keys() and all(
        torch.equal(mask.unpack(), others[name].unpack()) for name, mask in masks.items()
    )


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux):
    return (
        Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux)).calibrate(16, 0)
    )


def granularities(session) -> dict[str, str]:
    return {name: layer.granularity for name, layer in session.plan.layers.items()}


@settings(deadline=None)
@given(THRESHOLDS, st.sampled_from([0.0, 0.3, 0.5, 0.99]))
def test_a_plan_with_a_threshold_is_the_plan_made_with_it(threshold, sparsity):
    moved = plan(sparsity=sparsity).with_threshold(threshold)
    made = plan(sparsity=sparsity, threshold=threshold)
    assert dict(moved.layers) == dict(made.layers)
    assert (moved.threshold, moved.recipe) == (made.threshold, made.recipe)
    assert same(masks_of(moved), masks_of(made))


@settings(max_examples=10, deadline=None)
@given(st.lists(THRESHOLDS, min_size=1, max_size=3))
def test_wherever_the_line_has_been_masks_and_report_are_those_of_where_it_is(ready, thresholds):
    moved = ready
    for threshold in thresholds:
        moved = set_threshold(moved, threshold)
    made = pruned_by(set_threshold(ready, thresholds[-1]), "dit-pruning", "auto", 0.5)
    assert granularities(moved) == granularities(made)
    assert same(moved.masks, made.masks)
    assert moved.report == made.report
    assert moved.plan.threshold == thresholds[-1]


def test_only_layers_that_change_sides_are_masked_anew(ready):
    values = sorted(layer.g_out for layer in ready.plan.layers.values())
    middle = math.sqrt(values[2] * values[3])
    moved = set_threshold(ready, middle)
    changed = {name for name in ready.masks if moved.masks[name] is not ready.masks[name]}
    before, after = granularities(ready), granularities(moved)
    assert changed == {name for name in before if before[name] != after[name]}
    assert changed
    assert sum(value == "layer" for value in after.values()) == 3
    assert granularities(ready) == before  # the old snapshot is whole


def test_sparsities_of_clusters_stay_and_a_line_that_comes_back_brings_every_mask_back(ready):
    low, high = (pick(ready.plan.layers, key=lambda name: ready.plan.layers[name].g_out) for pick in (min, max))
    by_hand = ready
    for layer in (low, high):
        by_hand = set_sparsity(by_hand.cluster(layer, "row", "kmeans", 3), layer, 1, 0.9)
    moved = set_threshold(by_hand, 1e-300)  # every layer row by row
    assert moved.masks[high] is by_hand.masks[high]
    assert moved.masks[low] is not by_hand.masks[low]
    assert moved.cluster_rows(low)[1].sparsity == pytest.approx(0.9, abs=0.05)
    back = set_threshold(moved, None)
    assert same(back.masks, by_hand.masks)
    assert back.report == by_hand.report
    assert (back.recipe.threshold, back.plan.threshold) == (None, ready.plan.own_threshold)


def test_a_line_moved_by_hand_stays_until_the_method_changes(ready):
    moved = set_threshold(ready, 1e-300)
    assert set(granularities(pruned_by(moved, "dit-pruning", "cag", 0.7)).values()) == {"row"}
    assert pruned_by(moved, "wanda", "cag", 0.5).plan.threshold != 1e-300
    assert pruned_by(pruned_by(moved, "wanda"), "dit-pruning").plan.threshold == ready.plan.own_threshold


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf, True, "0.2", [1]])
def test_a_bad_threshold_gets_one_sentence(ready, threshold):
    with pytest.raises(UserError, match="The G_out threshold must be a number of 0 or more"):
        set_threshold(ready, threshold)


def test_values_that_cannot_be_split_have_a_line_of_their_own_to_go_back_to():
    made = plan()
    alike = replace(made, layers={name: replace(layer, g_out=0.3) for name, layer in made.layers.items()})
    moved = alike.with_threshold(0.1)
    assert {layer.granularity for layer in moved.layers.values()} == {"row"}
    back = moved.with_threshold(None)
    assert (back.threshold, back.recipe.threshold) == (math.inf, None)
    assert {layer.granularity for layer in back.layers.values()} == {"layer"}


def test_without_cag_there_is_no_line(ready):
    rows = pruned_by(ready, "wanda", "auto", 0.5)
    with pytest.raises(UserError, match="Only CAG has a threshold"):
        set_threshold(rows, 0.2)
    assert json.loads(threshold_line.show(rows, drawn=True))["note"] == threshold_line.OTHER
    assert not map_figures.dots_figure(rows, "g_out").layout.shapes
    with pytest.raises(UserError):
        set_threshold(Session(ready.store), 0.2)


def test_the_page_is_told_where_the_line_is_and_which_dots_are_filled(ready):
    moved = set_threshold(ready, 1e-300)
    shown = json.loads(threshold_line.show(moved, drawn=True))
    assert (shown["threshold"], shown["own"]) == (1e-300, ready.plan.own_threshold)
    assert shown["gOut"] == {name: layer.g_out for name, layer in ready.plan.layers.items()}
    symbols = [symbol for trace in map_figures.dots_figure(moved, "g_out").data for symbol in trace.marker.symbol]
    assert len(symbols) == len(ready.plan.layers)
    assert not any(symbol.endswith("-open") for symbol in symbols)


def test_what_was_measured_stays_when_layers_change_sides(ready):
    measured = replace(ready, sensed=(Sensed(ready.recipe, {"a": 1.0}),))
    moved = set_threshold(measured, 0.0)
    assert moved.sensitivity.errors == {"a": 1.0}
    assert moved.sensitivity.recipe.ranking != moved.recipe.ranking  # so that the map can say what it was measured with
