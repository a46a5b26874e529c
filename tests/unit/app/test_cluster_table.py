"""What the sliders of the cluster table do to a session, and what they are never allowed to do."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sessions import pruned_by

from dit_prune_viz.app.pages.layer import captions
from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.history import STEPS, History, bring_back
from dit_prune_viz.app.session.layer_data import row_parts
from dit_prune_viz.app.session.layer_selection import importance_bins
from dit_prune_viz.app.session.layer_subject import subject
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures.importance_plane import importance_plane
from dit_prune_viz.masks.scores_to_mask import mask_of_scores


@pytest.fixture(scope="module")
def session(tiny_clip, tiny_flux):
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    ready = Session(store).load_model(str(tiny_flux)).calibrate(8, 0)
    first, second = [layer.name for layer in ready.model.layers if layer.kind == "adaLN"][:2]
    return ready.cluster(first, k=3).cluster(second, k=3)


@pytest.fixture(scope="module")
def layers(session):
    return tuple(session.clusters)


def edit(session, layer, cluster, sparsity):
    """The edit that a slider of the table shown for `session` sends."""
    shown = json.loads(cluster_table.show(session, layer))
    return {
        "layer": shown["layer"],
        "clustering": shown["clustering"],
        "cluster": shown["rows"][cluster]["id"],
        "sparsity": sparsity,
    }


def test_edits_of_several_rows_and_layers_are_all_made(session, layers):
    first, second = layers
    edits = [edit(session, first, 0, 0.0), edit(session, first, 2, 1.0), edit(session, second, 1, 0.0)]
    after = cluster_table.apply(session, edits)
    assert [after.cluster_rows(first)[cluster].sparsity for cluster in (0, 2)] == [0.0, 1.0]
    assert after.cluster_rows(first)[1].sparsity == session.cluster_rows(first)[1].sparsity
    assert after.cluster_rows(second)[1].sparsity == 0.0


@pytest.mark.parametrize(
    "moved_on",
    [
        lambda s, layer: s.cluster(layer, k=2),
        lambda s, layer: s.cluster(layer, "column", k=3),
        lambda s, layer: s.calibrate(8, 1),
        lambda s, layer: s.load_model(s.model.source),
    ],
    ids=["other clusters", "other units", "calibrated anew", "loaded anew"],
)
def test_an_edit_of_clusters_that_are_gone_changes_nothing(session, layers, moved_on):
    late = edit(session, layers[0], 0, 1.0)
    now = moved_on(session, layers[0])
    assert cluster_table.apply(now, [late]) is now


def test_an_edit_survives_that_another_layer_was_opened_or_the_same_clusters_found_again(session, layers):
    late = edit(session, layers[0], 0, 1.0)
    now = session.cluster(layers[1], k=2).cluster(layers[0], k=3)
    assert cluster_table.apply(now, [late]).cluster_rows(layers[0])[0].sparsity == 1.0


def test_a_sparsity_beyond_its_bounds_is_a_mistake(session, layers):
    with pytest.raises(UserError):
        cluster_table.apply(session, [edit(session, layers[0], 0, 1.5)])


def test_a_table_without_clusters_has_no_rows(session):
    bare = session.load_model(session.model.source)
    for now, layer in ((None, None), (bare, bare.model.layers[0].name), (session, "nowhere")):
        assert json.loads(cluster_table.show(now, layer))["rows"] == []


def test_a_later_table_says_so(session, layers):
    tables = [json.loads(cluster_table.show(session, layers[0])) for _ in range(2)]
    assert tables[0]["at"] < tables[1]["at"]
    assert tables[1]["at"] < cluster_table.answer(1, changed=True).props["answered"]["at"]
    assert cluster_table.answer(1, changed=False).props["answered"]["at"] is None


def test_a_selection_outlives_its_clusters_but_not_its_layer(session, layers):
    chosen = Selection(subject(session, layers[0])).changed([0, 1], "set", "units")
    again = session.cluster(layers[0], k=2)
    assert "2 rows selected" in captions.describe_selection(session, layers[0], chosen)
    assert "2 rows selected" in captions.describe_selection(again, layers[0], chosen)
    for now, layer in (
        (session, layers[1]),
        (session.cluster(layers[0], "column", k=2), layers[0]),
        (session.load_model(session.model.source), layers[0]),
        (None, None),
    ):
        assert captions.describe_selection(now, layer, chosen) == captions.HINT


def verb(session, layer, kind, cluster=-1, **values):
    return {**edit(session, layer, max(0, cluster), 0), "cluster": cluster, "verb": kind, **values}


def test_the_verbs_of_the_table_change_clusters_and_no_mask(session, layers):
    layer = layers[0]
    after = cluster_table.apply(session, [verb(session, layer, "rename", 1, name="  quiet   rows ")])
    after = cluster_table.apply(after, [verb(after, layer, "lock", 1, locked=True)])
    after = cluster_table.apply(after, [verb(after, layer, "look", 1, look=6)])
    assert vars(after.clusters[layer].tags[1]) == {"name": "quiet rows", "look": 6, "locked": True}
    merged = cluster_table.apply(after, [verb(after, layer, "merge", 0, other=2)])
    assert [tag.name for tag in merged.clusters[layer].tags] == ["cluster 0", "quiet rows"]
    parted = cluster_table.apply(after, [verb(after, layer, "split", 0)])
    assert parted.clusters[layer].k == 4
    for now in (after, merged, parted):
        assert now.masks is session.masks
        assert sum(row.damage for row in now.cluster_rows(layer)) == pytest.approx(
            sum(row.damage for row in session.cluster_rows(layer))
        )


@pytest.mark.parametrize(("unit", "granularity"), [("row", "layer"), ("column", "row"), ("weight", "row")])
def test_the_layer_keeps_its_sparsity_and_locked_clusters_their_masks(session, layers, unit, granularity):
    layer = layers[0]
    now = pruned_by(session, "dit-pruning", granularity, 0.5).cluster(layer, unit, k=3)
    now = cluster_table.apply(now, [verb(now, layer, "lock", 2, locked=True)])
    after = cluster_table.apply(now, [edit(now, layer, 0, 0.8) | {"keep": True}])
    assert after.masks[layer].removed == now.masks[layer].removed
    old, new = now.cluster_rows(layer), after.cluster_rows(layer)
    assert new[2] == old[2]
    assert new[0].sparsity > old[0].sparsity
    assert new[1].sparsity < old[1].sparsity
    spread = cluster_table.apply(after, [verb(after, layer, "spread")])
    assert spread.masks[layer].removed == now.masks[layer].removed
    assert spread.cluster_rows(layer)[2] == old[2]
    assert sum(row.damage for row in spread.cluster_rows(layer)) <= sum(row.damage for row in new) + 1e-9
    rebuilt = mask_of_scores(after.plan.layer(layer), after.scores(layer))
    assert torch.equal(rebuilt, after.masks[layer].unpack())  # the plan alone gives the same masks


def test_clusters_and_sparsities_go_to_all_layers_of_a_kind(session, layers):
    now = set_sparsity(session, layers[0], 0, 0.9)
    after = cluster_table.apply(now, [verb(now, layers[0], "kind")])
    kind = session.model.layer(layers[0]).kind
    alike = {layer.name for layer in session.model.layers if layer.kind == kind}
    assert {name for name in after.masks if after.masks[name] is not session.masks[name]} == alike
    here = after.cluster_rows(layers[0])
    for name in alike:
        for row in after.cluster_rows(name):
            assert row.units == 0 or row.sparsity == pytest.approx(here[row.id].sparsity, abs=0.03)


def test_rows_of_modulation_layers_are_named_after_what_they_modulate(session):
    """Of AdaLayerNormZero the third sixth of the rows are the gates of attention, see test_modulation."""
    layer = next(one for one in session.model.layers if one.name.endswith("transformer_blocks.0.norm1.linear"))
    rows = layer.shape[0] // 6
    there = session.cluster(layer.name, "row", k=2)
    assert captions.describe_unit(there, layer.name, 2 * rows).startswith(f"row {2 * rows} (attention gate) · ")
    chosen = Selection(subject(there, layer.name), np.array([0, 1, 6 * rows - 1], np.int32))
    assert "3 rows selected** (2 attention shift, 1 MLP gate) · " in captions.describe_selection(
        there, layer.name, chosen
    )
    plane = importance_plane(importance_bins(there, layer.name))
    assert list(plane.layout.yaxis.ticktext) == [part.label for part in row_parts(there, layer.name)]
    halves = float(importance_bins(there, layer.name).out_edges[1]) / 2
    assert [shape.y0 + halves for shape in plane.layout.shapes] == [rows * place for place in range(1, 6)]
    assert "from top to bottom: attention shift," in plane.layout.meta["alt"]
    sorted_by_energy = importance_plane(importance_bins(there, layer.name, "energy"))
    assert sorted_by_energy.layout.yaxis.ticktext is None
    other = next(one.name for one in session.model.layers if one.kind == "q")
    assert "(" not in captions.describe_unit(session.cluster(other, "row", k=2), other, 0).split("·")[0]


def test_moves_of_one_slider_are_one_step_and_undo_brings_masks_back(session, layers):
    history = History()
    edits = [[edit(session, layers[0], 0, share)] for share in (0.1, 0.2, 0.3)]
    before = session
    for moved in edits:
        after = cluster_table.apply(before, moved)
        history.step(before, after, cluster_table.step_name(moved))
        before = after
    other = after.cluster(layers[1], k=2)
    history.step(after, other, f"clusters of {layers[1]}")
    assert history.undo().masks is after.masks
    assert history.undo().masks is session.masks
    assert history.undo() is None
    assert history.redo().masks is after.masks
    assert history.redo().clusters[layers[1]].k == 2
    assert history.redo() is None


def test_undo_keeps_the_clusters_of_a_layer_that_was_only_looked_at(session, layers):
    history = History()
    after = set_sparsity(session, layers[0], 0, 0.9)
    history.step(session, after, "a change")
    third = session.model.layers[0].name
    history.step(after, after.cluster(third, k=2), None)
    back = history.undo()
    assert third in back.clusters
    assert back.masks is session.masks


def test_steps_that_change_nothing_leave_no_trace(session, layers):
    history = History()
    history.step(session, session.prune(session.recipe), "the recipe")
    history.step(history.present, history.present.cluster(layers[1], k=5), "clusters")
    named = history.names
    history.step(history.present, history.present.cluster(layers[1], k=5), "clusters")  # the same once more
    assert (named, history.names) == (("clusters", None),) * 2
    there = history.present.prune(replace(session.recipe, sparsity=0.7))
    history.step(history.present, there, "sparsity…")
    history.step(there, there.prune(replace(session.recipe, sparsity=0.5)), "sparsity…")  # and back, in one move
    assert history.names == ("clusters", None)


def test_the_history_is_bounded(session):
    history = History()
    recipes = [replace(session.recipe, sparsity=0.5 + place / 200) for place in range(1, STEPS + 11)]
    sessions = [session, *(replace(session, recipe=recipe) for recipe in recipes)]
    for before, after in pairwise(sessions):
        history.step(before, after, "a change")
    undone = 0
    while history.undo() is not None:
        undone += 1
    assert undone == STEPS


def test_an_unknown_verb_is_a_mistake(session, layers):
    with pytest.raises(UserError, match="explode"):
        cluster_table.apply(session, [verb(session, layers[0], "explode", 0)])


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_the_table_s_figures_are_the_session_s(session, layers, unit):
    now = set_sparsity(session.cluster(layers[0], unit, k=3), layers[0], 1, 0.8)
    for quick, exact in zip(layer_data.cluster_rows(now, layers[0]), now.cluster_rows(layers[0]), strict=True):
        assert (quick.id, quick.units, quick.weights) == (exact.id, exact.units, exact.weights)
        assert (quick.sparsity, quick.damage, quick.energy) == pytest.approx(
            (exact.sparsity, exact.damage, exact.energy), abs=1e-6
        )


def test_what_is_brought_back_keeps_the_layers_looked_at_since(session, layers):
    third = session.model.layers[0].name
    now = set_sparsity(session, layers[0], 0, 0.9).cluster(third, k=2)
    back = bring_back(session, now)
    assert third in back.clusters
    assert back.masks is session.masks
    other = replace(now, model=replace(session.model))
    assert bring_back(session, other) is session
