"""A session on a model whose masks wait: sliders make none of them, and whatever needs one gets the right one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sessions import pruned_by

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.map.plan_pair_view import describe
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.finishing import finish, is_finished
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.recipe import Recipe


@pytest.fixture(scope="module")
def calibrated(tiny_clip, tiny_flux):
    session = Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux))
    session.model.cache.limit = 8 * session.model.prunable_parameters
    return session.calibrate(8, 0)


@pytest.fixture
def large(calibrated):
    """Pruned anew for every test, so that no mask is there."""
    return pruned_by(calibrated, "dit-pruning", "auto", 0.5)


def digests(masks) -> dict[str, str]:
    return {name: mask.digest for name, mask in masks.items()}


def test_sliders_and_undo_make_no_mask(large):
    history = History()
    history.present = large
    for sparsity in (0.6, 0.7):
        after = pruned_by(large, "dit-pruning", "auto", sparsity)
        history.step(history.present, after, "sparsity…")
    moved = set_threshold(after, 0.0)
    history.step(after, moved, "threshold")
    assert history.undo() is not None
    assert [one.pruned.layers.made for one in (large, after, moved)] == [{}, {}, {}]
    assert formatting.damage(moved.report).startswith("≈ ")
    assert digests(moved.masks) == digests(rank(Recipe(sparsity=0.7, threshold=0.0), moved.statistics).packed_masks)


def test_the_history_counts_the_masks_that_are_made(large):
    history = History()
    history.present = large
    history.step(large, pruned_by(large, "dit-pruning", "auto", 0.6), "sparsity")
    assert history._bytes() == 0
    name = large.model.layers[0].name
    size = large.masks[name].bits.numel()
    assert history._bytes() == size
    assert list(large.pruned.layers.made) == [name]


def test_a_cluster_s_slider_makes_the_mask_of_its_layer_alone(large):
    name = large.model.layers[1].name
    moved = set_sparsity(large.cluster(name, k=2), name, 0, 0.25)
    assert list(moved.pruned.layers.made) == [name]
    report = next(one for one in moved.report.layers if one.name == name)
    assert (report.removed, report.estimated) == (moved.masks[name].removed, False)
    assert "≈" not in formatting.damage(report)
    assert formatting.damage(moved.report).startswith("≈ ")  # of the other layers


def test_a_picture_is_drawn_with_all_masks_and_says_how_far_they_are(large):
    told = []
    drawn = drawn_model.of_session(large, lambda *step: told.append(step[2]))
    assert told == [f"Masking {layer.name}" for layer in large.model.layers]
    expected = rank(replace(large.recipe, sparsity=0.5), large.statistics)
    assert digests({name: layer.mask for name, layer in drawn.layers.items()}) == digests(expected.packed_masks)
    assert sum(drawn.parts.values()) == expected.nbytes


def test_whether_the_next_picture_takes_long_is_known_without_masks(calibrated):
    session = calibrated.prune(replace(calibrated.recipe, sparsity=0.5, update="mean"))
    assert not is_finished(session)
    assert session.pruned.layers.made == {}
    finish(session)
    assert is_finished(session)


def test_plans_are_compared_by_their_masks_once_they_are_there(large):
    other = pruned_by(large, "dit-pruning", "auto", 0.6)
    assert "once images have been drawn" in describe(large, other)
    assert large.pruned.layers.made == {}
    for session in (large, other):
        session.pruned.make_masks()
    differing = sum(mask.differing(other.masks[name]) for name, mask in large.masks.items())
    assert f"the masks differ in {differing:,} weights" in describe(large, other).replace("The masks", "the masks")
