"""A session saved as a recipe and opened again: its masks, and its clusters as they were shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dit_prune_viz.app.session.cluster_edits import merge_clusters, set_sparsity, tag_cluster
from dit_prune_viz.app.session.history import FormerModel
from dit_prune_viz.app.session.recipe_io import open_recipe, recipe_in_words, save_recipe_text
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pruning.carry_over import Origin, carry
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer


@pytest.fixture(scope="module")
def adaln(ready):
    """Layers that only FLUX has, of a kind that others have as well."""
    return [layer.name for layer in ready.model.layers if layer.kind == "adaLN" and layer.name.startswith("single")]


@pytest.fixture(scope="module")
def tuned(ready, adaln):
    """One layer with two sparsities and names, one that was clustered on, one only looked at."""
    session = set_sparsity(ready.cluster(adaln[0], "row", "kmeans", 3), adaln[0], 1, 0.9)
    session = tag_cluster(set_sparsity(session, adaln[0], 2, 0.1), adaln[0], 1, name="loud", look=5, locked=True)
    session = set_sparsity(session.cluster(adaln[1], "column", "kmeans", 4), adaln[1], 0, 0.8)
    session = tag_cluster(merge_clusters(session, adaln[1], [2, 3]), adaln[1], 2, name="the rest")
    return session.cluster("transformer_blocks.0.attn.to_q", "row", "kmeans", 2)


@pytest.fixture(scope="module")
def text(tuned):
    return save_recipe_text(tuned)


def same_masks(first, second) -> bool:
    return all(torch.equal(mask.bits, second.masks[name].bits) for name, mask in first.masks.items())


def test_clusters_come_back_with_names_colours_and_locks(ready, tuned, text, adaln):
    opened, notes = open_recipe(ready, text)
    assert notes == ()
    assert same_masks(tuned, opened)
    assert opened.report == tuned.report
    assert set(opened.clusters) == set(adaln[:2])  # what was only looked at is no part of the work
    for name in adaln[:2]:
        assert np.array_equal(opened.clusters[name].labels, tuned.clusters[name].labels)
        assert opened.clusters[name].tags == tuned.clusters[name].tags
        assert opened.cluster_rows(name) == tuned.cluster_rows(name)
        assert opened.asked[name] == (tuned.clusters[name].unit, "by hand", tuned.clusters[name].k)
    assert save_recipe_text(opened) == text
    assert (
        recipe_in_words(tuned) == recipe_in_words(opened) == "DiT-Pruning, 50 %, three clusters by hand in two layers"
    )


def test_work_goes_on_where_it_was_left(ready, tuned, text, adaln):
    opened, _ = open_recipe(ready, text)
    for session in (tuned, opened):
        locked = set_sparsity(session, adaln[0], 0, 0.7, keep_layer=True)
        assert locked.cluster_rows(adaln[0])[1].sparsity == session.cluster_rows(adaln[0])[1].sparsity
    further = [set_sparsity(session, adaln[0], 0, 0.7, keep_layer=True) for session in (tuned, opened)]
    assert same_masks(*further)
    assert opened.cluster(adaln[0], "row", "kmeans", 3).clusters[adaln[0]].tags[1].name == "loud"


def test_the_global_slider_starts_layers_anew(ready, text):
    opened, _ = open_recipe(ready, text)
    slid = opened.prune(replace(opened.recipe, sparsity=0.7))
    assert same_masks(slid, ready.prune(replace(ready.recipe, sparsity=0.7)))
    assert slid.plan.by_hand == frozenset()
    assert set(slid.clusters) == set(opened.clusters)


def test_a_threshold_of_before_is_not_inherited(ready, text):
    opened, _ = open_recipe(set_threshold(ready, 0.0), text)
    assert opened.plan.threshold == ready.plan.threshold
    moved = set_threshold(ready, 0.0)
    again, _ = open_recipe(ready, save_recipe_text(moved))
    assert (again.plan.threshold, again.recipe.threshold) == (0.0, 0.0)
    assert same_masks(again, moved)


def test_the_recipe_says_how_to_calibrate(ready, store, tiny_flux, text):
    other = ready.calibrate(4, 1)
    opened, _ = open_recipe(other, text)
    assert opened.calibration.samples == 16
    assert save_recipe_text(opened) == text
    unready, _ = open_recipe(Session(store).load_model(str(tiny_flux)), text)
    assert same_masks(unready, opened)

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        open_recipe(Session(store).load_model(str(tiny_flux)), text.replace('"seed": 0', '"seed": 7'), progress=stop)


def test_layers_prunable_by_request_come_back(store, ready, tiny_flux):
    more = ready.also_prune("x_embedder")
    layer = next(one.name for one in more.model.layers if one.name == "x_embedder")
    session = set_sparsity(more.cluster(layer, "row", "kmeans", 2), layer, 0, 0.9)
    text = save_recipe_text(session)
    opened, notes = open_recipe(ready, text)
    assert notes == ("Prunable by request is now x_embedder, as it was for the recipe.",)
    assert same_masks(session, opened)
    assert save_recipe_text(opened) == text
    back, notes = open_recipe(opened, save_recipe_text(ready))
    assert notes == ("Prunable by request is now nothing, as it was for the recipe.",)
    assert same_masks(back, ready)


def test_what_cannot_be_opened_changes_nothing(ready, tuned, text):
    for bad in ("", "{", '{"sparsity": 2}', '{"ignore": "nowhere"}', text.replace('"sha256": "', '"sha256": "0')):
        with pytest.raises(UserError):
            open_recipe(tuned, bad)
    assert save_recipe_text(tuned) == text
    for early in (Session(ready.store), Session(ready.store).load_model(str(ready.model.source))):
        with pytest.raises(UserError, match=r"No model is loaded|is not calibrated"):
            save_recipe_text(early)
    with pytest.raises(UserError, match="No model is loaded"):
        open_recipe(Session(ready.store), text)


def test_a_session_prunes_by_a_recipe_with_layers_set_by_hand(ready, tuned, text):
    from dit_prune_viz.pruning.recipe_file import read_recipe

    recipe = read_recipe(text, ready.model).recipe
    again = set_threshold(ready, 0.0).prune(recipe)
    assert same_masks(again, tuned)
    assert again.recipe == tuned.recipe
    layer = next(iter(tuned.clusters))
    assert again.clusters[layer].tags == tuned.clusters[layer].tags


def test_leaving_a_model_keeps_what_was_set_by_hand(tuned, store, tiny_sana):
    former = FormerModel.of(tuned)
    back = former.load(Session(store).load_model(str(tiny_sana)), None)
    assert same_masks(back, tuned)
    assert save_recipe_text(back) == save_recipe_text(tuned)


def test_a_recipe_of_another_family_is_carried_over_by_kind(store, tiny_sd3, text, adaln, tuned):
    other = Session(store).load_model(str(tiny_sd3)).calibrate(8, 0)
    with pytest.raises(UserError, match=r"was made for tiny-flux .* this is tiny-sd3 .*--carry-over"):
        open_recipe(other, text)
    opened, notes = open_recipe(other, text, carry_over=True)
    here = [layer for layer in other.model.layers if layer.kind == "adaLN"]
    lost = [one for one in tuned.report.layers if one.name in adaln[:2]]
    share = sum(one.removed for one in lost) / sum(one.weights for one in lost)
    found = {one.name: one.sparsity for one in opened.report.layers}
    assert len(here) == len(opened.plan.by_hand) > 1
    for layer in here:
        assert found[layer.name] == pytest.approx(share, abs=1 / min(layer.shape))
    assert opened.recipe.sparsity == tuned.recipe.sparsity
    assert notes[0].startswith("This recipe was made for tiny-flux")
    assert f"{100 * share:.4g} % on average" in " ".join(notes)
    assert all(note.endswith(".") for note in notes)


def test_carrying_over_keeps_what_means_something_and_says_the_rest(ready):
    layers = ready.model.layers
    first, second = layers[0], layers[1]
    origins = {
        "gone": Origin("q", (10, 10), 0.2),
        "gone too": Origin("q", (30, 10), 0.6),
        first.name: Origin(first.kind, (1, 1), 0.3),
        "nobody": Origin("no such kind", (2, 2), 0.1),
    }
    recipe = Recipe(
        "wanda",
        "cag",
        threshold=0.3,
        ignore=("adaLN", "block 99"),
        bounds={"nowhere": (0, 0.1), "k": (0, 0.9)},
        tuned=[TunedLayer(name, 0.5) for name in (*origins, second.name, "<unknown>")],
    )
    carried = carry(recipe, layers, origins)
    assert (carried.recipe.saliency, carried.recipe.granularity, carried.recipe.threshold) == ("wanda", "cag", None)
    assert carried.recipe.ignore == ("adaLN",)
    assert [one.pattern for one in carried.recipe.bounds] == ["k"]
    tuned = {one.name: one.sparsity for one in carried.recipe.tuned}
    kinds = {layer.name: layer.kind for layer in layers}
    assert tuned.pop(second.name) == 0.5
    assert {name for name in tuned if kinds[name] == "q"} == {name for name, kind in kinds.items() if kind == "q"}
    assert {share for name, share in tuned.items() if kinds[name] == "q"} == {0.5}  # (100 · 0.2 + 300 · 0.6) / 400
    assert {share for name, share in tuned.items() if kinds[name] == first.kind} == {0.3}
    words = " ".join(carried.dropped)
    for part in ("block 99", "nowhere", "threshold 0.3", "2 layers of kind q had 50 %", "nobody, ?unknown?"):
        assert part in words
    assert carry(Recipe(threshold=0.3), layers, keep_threshold=True).recipe.threshold == 0.3
    pattern = carry(Recipe("wanda", "3:7", tuned=[TunedLayer("gone", 0.5)]), layers, origins)
    assert (pattern.recipe.granularity, pattern.dropped[0][:4]) == ("auto", "3:7 ")
    fixed = carry(Recipe("wanda", "2:4", tuned=[TunedLayer("gone", 0.5)]), layers, origins)
    assert (fixed.recipe.granularity, fixed.recipe.tuned) == ("2:4", ())
    assert "leaves q no sparsity" in fixed.dropped[0]


def test_a_model_loaded_later_gets_the_recipe_as_far_as_it_fits(store, ready, tiny_sd3):
    session = ready.prune(replace(ready.recipe, sparsity=0.2, ignore=("k", "single_transformer_blocks.0.attn")))
    assert json.loads(save_recipe_text(session))["ignore"] == ["k", "single_transformer_blocks.0.attn"]
    assert session.load_model(str(tiny_sd3)).recipe.ignore == ("k",)
    # What the other model cannot reach would never let it be calibrated.
    assert replace(session, recipe=Recipe(ignore="*")).load_model(str(tiny_sd3)).calibrate(4, 0).recipe.ignore == ()
