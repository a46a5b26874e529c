"""Whole layers set by hand: exact counts, the model's sum kept, limits respected, and a recipe that makes it again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import pruned_by

from dit_prune_viz.app.session.cluster_edits import set_sparsity, tag_cluster
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.layer_edits import movable_layers, set_layers, spread_layers, within_limits
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.limits import Bounds
from dit_prune_viz.pruning.prune import rank


def lost(session: Session) -> dict[str, int]:
    """Layer → pruned weights, counted in its mask."""
    return {name: int((~mask.unpack()).sum()) for name, mask in session.masks.items()}


def by_rule(session: Session, name: str, sparsity: float) -> int:
    """floor(n·s) in each of the layer's groups."""
    d_out, d_in = session.model.layer(name).shape
    groups, size = {"layer": (1, d_out * d_in), "row": (d_out, d_in)}[session.plan.layer(name).granularity]
    return groups * math.floor(size * sparsity + 1e-9)


def digests(masks) -> dict[str, str]:
    return {name: mask.digest for name, mask in masks.items()}


def test_the_named_layers_lose_what_they_are_told_and_no_other_mask_moves(ready):
    names = [layer.name for layer in ready.model.layers]
    wanted = {names[0]: 0.8, names[3]: 0.1, names[5]: 0.0, names[6]: 1.0}
    after = set_layers(ready, wanted)
    counts = lost(after)
    assert {name: counts[name] for name in wanted} == {name: by_rule(ready, name, s) for name, s in wanted.items()}
    assert all(after.masks[name] is ready.masks[name] for name in names if name not in wanted)
    assert {one.name: one.removed for one in after.report.layers} == counts
    assert after.plan.by_hand == set(wanted)
    assert after.recipe == ready.recipe


@settings(max_examples=15)
@given(st.data())
def test_the_others_make_up_for_it_to_the_weight(ready, data):
    names = [layer.name for layer in ready.model.layers]
    named = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    locked = data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    before, session = lost(ready), ready
    for sparsity in data.draw(st.lists(st.sampled_from([0.31, 0.5, 0.667]), min_size=1, max_size=2)):
        session = set_layers(session, dict.fromkeys(named, sparsity), keep_overall=True, locked=locked)
    after = lost(session)
    assert sum(after.values()) == sum(before.values()) == session.report.removed
    assert all(after[name] == by_rule(ready, name, sparsity) for name in named)
    assert all(session.masks[name] is ready.masks[name] for name in locked if name not in named)
    again = rank(session.plan.as_recipe(), session.statistics)
    assert digests(again.packed_masks) == digests(session.masks)


def test_what_is_left_over_is_shared_by_the_room_there_is(ready):
    names = [layer.name for layer in ready.model.layers]
    before, after = lost(ready), lost(set_layers(ready, {names[0]: 0.9}, keep_overall=True))
    more = after[names[0]] - before[names[0]]
    held = sum(before[name] for name in names[1:])
    for name in names[1:]:
        assert before[name] - after[name] == pytest.approx(more * before[name] / held, abs=1)


def test_too_little_room_is_one_sentence(ready):
    first, second, *rest = (layer.name for layer in ready.model.layers)
    with pytest.raises(UserError, match=r"can make up for 0 of [\d,]+ weights only; unlock some"):
        set_layers(ready, {first: 0.9}, keep_overall=True, locked=[second, *rest])
    with pytest.raises(UserError, match="can make up for"):
        set_layers(ready, dict.fromkeys([first, *rest], 1.0), keep_overall=True)


def test_dense_layers_and_bounds_are_respected(ready):
    kinds = sorted({layer.kind for layer in ready.model.layers})
    dense, bounded = kinds[:2]
    limited = pruned_by(ready, "dit-pruning", ignore=(dense,), bounds=(Bounds(bounded, 0.4, 0.6),))
    held = {layer.name for layer in limited.model.layers if layer.kind == dense}
    within = {layer.name: layer.weights for layer in limited.model.layers if layer.kind == bounded}
    other = next(layer.name for layer in limited.model.layers if layer.kind == kinds[-1])
    assert set(movable_layers(limited)) == {layer.name for layer in limited.model.layers} - held
    for asked, near in ((0.2, 0.4), (0.5, 0.5), (0.9, 0.6)):
        found = within_limits(limited, limited.plan.layers, asked)
        assert set(found) == set(limited.plan.layers) - held
        assert all(found[name] == pytest.approx(near if name in within else asked, abs=1e-3) for name in found)
        counts = lost(set_layers(limited, found))
        assert all(0.4 * size - 1 <= counts[name] <= 0.6 * size for name, size in within.items())
        assert all(
            counts[name] in (math.ceil(near * size), by_rule(limited, name, near)) for name, size in within.items()
        )
    assert set_layers(limited, dict.fromkeys(held, 0.0)) is limited
    with pytest.raises(UserError, match=r"keeps layer .* dense"):
        set_layers(limited, dict.fromkeys(held, 0.3))
    for sparsity in (0.3, 0.7):
        with pytest.raises(UserError, match=r"let layer .* lose 40 % to 60 % of its weights"):
            set_layers(limited, dict.fromkeys(within, sparsity))
    for sparsity in (0.4, 0.6):
        counts = lost(set_layers(limited, dict.fromkeys(within, sparsity)))
        assert all(
            counts[name] in (math.ceil(sparsity * size), by_rule(limited, name, sparsity))
            for name, size in within.items()
        )
    after = lost(set_layers(limited, {other: 0.0}, keep_overall=True))
    assert sum(after.values()) == limited.report.removed
    assert all(after[name] == 0 for name in held)
    assert all(0.4 * size - 1 <= after[name] <= 0.6 * size + 1 for name, size in within.items())


def test_two_of_four_fixes_the_sparsity(ready):
    halved = pruned_by(ready, "dit-pruning", "2:4")
    name = halved.model.layers[0].name
    assert movable_layers(halved) == ()
    assert within_limits(halved, halved.plan.layers, 0.4) == {}
    assert set_layers(halved, {name: 0.5}) is halved
    with pytest.raises(UserError, match=r"is pruned 2:4, which fixes its sparsity; rank by layer, row or column first"):
        set_layers(halved, {name: 0.4})
    with pytest.raises(UserError, match="nothing to spread"):
        spread_layers(halved, halved.plan.layers)


def test_nonsense_is_one_sentence(ready):
    name = ready.model.layers[0].name
    for wrong in ({name: 1.5}, {name: math.nan}, {name: "x"}, {"nowhere": 0.5}):
        with pytest.raises(UserError):
            set_layers(ready, wrong)
    with pytest.raises(UserError):
        set_layers(Session(ready.store), {name: 0.5})
    assert set_layers(ready, {}) is ready
    assert set_layers(ready, {name: 0.5}, keep_overall=True) is ready  # it loses as much already


@pytest.mark.parametrize("high", [True, False], ids=["row by row", "as a whole"])
def test_a_layer_keeps_its_clusters_and_the_locked_ones_their_counts(ready, high):
    pick = max if high else min
    name = pick(ready.plan.layers, key=lambda one: ready.plan.layers[one].g_out)
    own = ready.cluster(name, "row", "kmeans", 3)
    own = set_sparsity(own, name, 0, 0.25)
    own = tag_cluster(set_sparsity(own, name, 1, 0.75), name, 1, locked=True, name="kept")
    before = own.cluster_rows(name)
    after = set_layers(own, {name: 0.6})
    assert after.clusters[name].tags[1].name == "kept"
    assert after.clusters[name].labels is own.clusters[name].labels
    rows = after.cluster_rows(name)
    assert rows[1].sparsity == before[1].sparsity
    assert rows[0].sparsity > before[0].sparsity
    weights = after.model.layer(name).weights
    smallest = min(row.units for i, row in enumerate(rows) if i != 1) if high else 1
    assert abs(lost(after)[name] - math.floor(0.6 * weights)) < smallest
    again = rank(after.plan.as_recipe(), after.statistics)
    assert digests(again.packed_masks) == digests(after.masks)
    with pytest.raises(UserError, match=r"With its locked clusters layer .*; unlock a cluster first"):
        set_layers(own, {name: 0.0})


def test_layers_with_cluster_sparsities_make_up_for_nothing(ready):
    first, second = (layer.name for layer in ready.model.layers[:2])
    own = set_sparsity(ready.cluster(first, k=2), first, 0, 0.9)
    after = set_layers(own, {second: 0.8}, keep_overall=True)
    assert after.masks[first] is own.masks[first]
    assert sum(lost(after).values()) == sum(lost(own).values())
    # named itself, it counts with what it really loses
    after = set_layers(own, {first: 0.7}, keep_overall=True)
    assert sum(lost(after).values()) == sum(lost(own).values())
    spread = spread_layers(own, own.plan.layers)
    assert spread.masks[first] is own.masks[first]


def test_undo_brings_every_mask_back(ready):
    history = History()
    history.present = ready
    after = set_layers(ready, {ready.model.layers[0].name: 0.9}, keep_overall=True)
    history.step(ready, after, "sparsity of layers…")
    back = history.undo()
    assert back.plan is ready.plan
    assert all(back.masks[name] is mask for name, mask in ready.masks.items())
    assert digests(history.redo().masks) == digests(after.masks)


def test_spreading_keeps_the_sum_and_no_other_split_costs_less(ready):
    names = [layer.name for layer in ready.model.layers][:4]
    locked, pair = names[0], names[1:3]
    uneven = set_layers(ready, {pair[0]: 0.8, pair[1]: 0.2})
    after = spread_layers(uneven, names[:3], locked=[locked])
    counts, before = lost(after), lost(uneven)
    assert sum(counts[name] for name in pair) == sum(before[name] for name in pair)
    assert all(after.masks[name] is uneven.masks[name] for name in after.masks if name not in pair)
    sizes = [ready.model.layer(name).weights for name in pair]
    total = sum(before[name] for name in pair)
    for count in torch.linspace(max(0, total - sizes[1]), min(sizes[0], total), 25).long().tolist():
        shares = dict(zip(pair, (count / sizes[0], (total - count) / sizes[1]), strict=True))
        assert after.report.damage <= set_layers(uneven, shares).report.damage * 1.01 + 1e-9
    assert digests(rank(after.plan.as_recipe(), after.statistics).packed_masks) == digests(after.masks)
    with pytest.raises(UserError, match="at least two layers"):
        spread_layers(ready, [pair[0]])


def test_of_a_large_model_no_mask_is_made(ready):
    limit = ready.model.cache.limit
    ready.model.cache.limit = 8 * ready.model.prunable_parameters
    try:
        large = pruned_by(replace(ready, pruned=None), "dit-pruning")
        names = list(large.plan.layers)
        after = set_layers(large, dict.fromkeys(names[:4], 0.7), keep_overall=True)
        after = spread_layers(after, names)
        assert after.pruned.layers.made == {}
        assert after.report.removed == large.report.removed == sum(lost(after).values())
    finally:
        ready.model.cache.limit = limit
