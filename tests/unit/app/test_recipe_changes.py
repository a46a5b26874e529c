"""Another recipe or another sparsity leaves what was set by hand as it is, and the other layers make up for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sessions import pruned_by

from dit_prune_viz.app.session import recipe_form as form
from dit_prune_viz.app.session.block_edits import set_by_text
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.layer_edits import set_layers
from dit_prune_viz.app.session.recipe_changes import change_recipe, discard_by_hand, set_by_hand
from dit_prune_viz.app.session.recipe_io import open_recipe, recipe_in_words, save_recipe_text
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.recipe import Recipe


def removed(session) -> dict[str, int]:
    return {name: int((~mask.unpack()).sum()) for name, mask in session.masks.items()}


def changed(session, recipe: Recipe):
    return change_recipe(session, replace(recipe, calibration=session.recipe.calibration))


def digests(masks) -> dict[str, str]:
    return {name: mask.digest for name, mask in masks.items()}


def kind_of(session, kind: str) -> set[str]:
    return {layer.name for layer in session.model.layers if layer.kind == kind}


@pytest.fixture
def by_hand(ready):
    """adaLN at 20 %, the rest at 50 %."""
    return set_by_text(ready, "adaLN:20")


@pytest.mark.parametrize("allocation", ["uniform", "tempered:0.6", "damage-aware"])
@pytest.mark.parametrize("sparsity", [0.4, 0.7])
def test_the_global_slider_leaves_layers_set_by_hand_and_the_rest_makes_up_for_them(by_hand, allocation, sparsity):
    after = changed(by_hand, Recipe(sparsity=sparsity, allocation=allocation))
    was, now = removed(by_hand), removed(after)
    own = kind_of(after, "adaLN")
    assert {name: now[name] for name in own} == {name: was[name] for name in own}
    weights = sum(layer.weights for layer in after.model.layers)
    assert sum(now.values()) == int(weights * sparsity + 1e-6)
    assert set(set_by_hand(after)) == own
    # The others go together: with the uniform allocation they all have one sparsity.
    if allocation == "uniform":
        rest = {layer.name: now[layer.name] / layer.weights for layer in after.model.layers if layer.name not in own}
        assert max(rest.values()) - min(rest.values()) < 0.01
        assert min(rest.values()) > sparsity


def test_a_second_move_of_the_slider_and_another_score_keep_them_too(by_hand):
    moved = changed(changed(by_hand, Recipe(sparsity=0.6)), Recipe("wanda", "row", sparsity=0.3))
    own = kind_of(moved, "adaLN")
    for layer in moved.model.layers:
        if layer.name in own:
            assert moved.plan.layer(layer.name).sparsity == pytest.approx(0.2)
            assert moved.plan.layer(layer.name).granularity == "row"
    assert set(set_by_hand(moved)) == own


def test_clusters_set_by_hand_keep_their_sparsities(ready):
    layer = ready.model.layers[-1].name
    session = set_sparsity(ready.cluster(layer, "row", "kmeans", 3), layer, 1, 0.9)
    before = {row.id: row.sparsity for row in session.cluster_rows(layer)}
    after = changed(session, Recipe(sparsity=0.6))
    assert {row.id: row.sparsity for row in after.cluster_rows(layer)} == pytest.approx(before)
    assert after.report.achieved == pytest.approx(0.6, abs=1e-4)


def test_layers_that_only_made_up_for_an_edit_follow_the_recipe_again(ready):
    name = ready.model.layers[0].name
    kept = set_layers(ready, {name: 0.1}, keep_overall=True)
    assert kept.plan.by_hand == {layer.name for layer in ready.model.layers}
    assert set_by_hand(kept) == [name]
    after = changed(kept, Recipe(sparsity=0.6))
    assert set_by_hand(after) == [name]
    assert after.report.achieved == pytest.approx(0.6, abs=1e-4)


def test_what_came_of_it_replays_bit_for_bit_and_is_said_in_words(by_hand):
    after = changed(by_hand, Recipe(sparsity=0.6))
    replayed = rank(after.plan.as_recipe(), after.statistics)
    assert digests(replayed.packed_masks) == digests(after.masks)
    opened, _ = open_recipe(after, save_recipe_text(after))
    assert digests(opened.masks) == digests(after.masks)
    assert set_by_hand(opened) == set_by_hand(after)
    assert recipe_in_words(after) == "DiT-Pruning, 60 %, adaLN set to 20 %, the others make up for it"
    # Another edit by hand moves nothing else, and it too replays.
    name = next(layer.name for layer in after.model.layers if layer.kind == "q")
    edited = set_layers(after, {name: 0.1})
    others = {one: digest for one, digest in digests(edited.masks).items() if one != name}
    assert others == {one: digest for one, digest in digests(after.masks).items() if one != name}
    assert digests(rank(edited.plan.as_recipe(), edited.statistics).packed_masks) == digests(edited.masks)
    opened, _ = open_recipe(edited, save_recipe_text(edited))
    assert set(set_by_hand(opened)) == {name, *set_by_hand(after)}


def test_what_cannot_be_made_up_for_is_refused_in_a_sentence(ready):
    most = set_by_text(ready, "adaLN:0, mlp in:0, mlp out:0")
    with pytest.raises(UserError, match=r"With the layers set by hand 0 % to .* can go, not the 95 % asked for"):
        changed(most, Recipe(sparsity=0.95))
    every = set_layers(ready, {layer.name: 0.3 for layer in ready.model.layers})
    with pytest.raises(UserError, match="Every layer is set by hand"):
        changed(every, Recipe(sparsity=0.6))


def test_discarding_leaves_the_plain_recipe(by_hand):
    after = changed(by_hand, Recipe(sparsity=0.6))
    plain = discard_by_hand(after)
    assert set_by_hand(plain) == []
    assert digests(plain.masks) == digests(pruned_by(by_hand, "dit-pruning", sparsity=0.6).masks)
    assert form.same_form(plain.recipe, after.recipe)


def test_n_of_m_leaves_nothing_by_hand(by_hand):
    after = changed(by_hand, Recipe(granularity="2:4"))
    assert set_by_hand(after) == []
    assert after.report.achieved == 0.5
