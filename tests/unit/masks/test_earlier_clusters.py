"""A layer that is clustered again and again: its mask is that of nested plans, its plan stays small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.clustering.clusters import frozen_labels
from dit_prune_viz.clustering.units import weights_of
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.earlier_clusters import EarlierClusters
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups
from dit_prune_viz.methods.search.distil import _pinned
from dit_prune_viz.methods.search.swap import swap_groups

SHAPE = (6, 8)
UNITS = {"row": 6, "column": 8, "weight": 48}
GRANULARITIES = ("layer", "row", "column")


def nested_mask(scores, granularity, levels):
    """The mask of clusterings, each upon the one before, by recursion."""
    if not levels:
        return keep_mask(scores, sparsity=0.5, granularity=granularity)
    *earlier, (unit, labels, sparsity) = levels
    return keep_mask_groups(scores, labels, sparsity, granularity, unit, nested_mask(scores, granularity, earlier))


def nested_plan(levels, granularity="layer"):
    clusters = None
    for unit, labels, sparsity in levels:
        clusters = ClusterPlan(unit, labels, sparsity, clusters)
    return LayerPlan("q", granularity, 1.0, 0.5, clusters)


def deciding_weights(levels):
    """(d_out, d_in) of (level, cluster), or None: whose sparsity decides each weight, weight by weight."""
    table = np.full(SHAPE, None, dtype=object)
    for number, (unit, labels, sparsity) in enumerate(levels):
        for row in range(SHAPE[0]):
            for column in range(SHAPE[1]):
                place = {"row": row, "column": column, "weight": row * SHAPE[1] + column}[unit]
                if sparsity[labels[place]] is not None:
                    table[row, column] = number, int(labels[place])
    return table


@st.composite
def a_level(draw):
    unit, k = draw(st.sampled_from(list(UNITS))), draw(st.integers(1, 4))
    labels = np.array(draw(st.lists(st.integers(0, k - 1), min_size=UNITS[unit], max_size=UNITS[unit])))
    shares = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.4, 0.75, 1.0]))
    return unit, labels, tuple(draw(st.lists(shares, min_size=k, max_size=k)))


def some_scores(seed):
    values = np.random.default_rng(seed).integers(0, 20, SHAPE)  # with ties
    return torch.from_numpy(values.astype(np.float32))


@settings(max_examples=150)
@given(st.lists(a_level(), max_size=6), st.sampled_from(GRANULARITIES), st.integers(0, 99))
def test_the_mask_is_that_of_nested_plans(levels, granularity, seed):
    scores, plan = some_scores(seed), nested_plan(levels, granularity)
    assert torch.equal(mask_of_scores(plan, scores), nested_mask(scores, granularity, levels))


@settings(max_examples=100)
@given(st.lists(a_level(), min_size=1, max_size=6))
def test_weights_are_counted_together_where_the_same_clusters_decide(levels):
    groups = nested_plan(levels).clusters.pinned_groups(SHAPE)
    unit, labels, sparsity = levels[-1]
    rules = any(share is not None for share in sparsity)
    own = weights_of(labels, SHAPE, unit).numpy() if rules else np.zeros(SHAPE, int)
    decides = deciding_weights(levels[:-1])
    expected = {}
    for place in np.ndindex(SHAPE):
        expected.setdefault((own[place], decides[place]), set()).add(place)
    if groups is None:
        assert not rules
        assert set(decides.flat) == {None}
        return
    found = {}
    for place in np.ndindex(SHAPE):
        found.setdefault(groups[place], set()).add(place)
    assert sorted(found) == list(range(len(found)))
    assert set(map(frozenset, found.values())) == set(map(frozenset, expected.values()))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_forty_clusterings_leave_a_plan_of_one_level(granularity):
    rng, levels = np.random.default_rng(3), []
    for number in range(40):
        unit = ("row", "weight", "column", "weight")[number % 4]
        levels.append((unit, rng.integers(0, 40, UNITS[unit]), (*rng.random(39).round(2).tolist(), None)))
    levels.append(("row", np.zeros(6, int), (None,)))
    plan, scores = nested_plan(levels, granularity), some_scores(1)
    mask = mask_of_scores(plan, scores)
    assert torch.equal(mask, nested_mask(scores, granularity, levels))
    beneath = plan.clusters.beneath
    assert isinstance(beneath, EarlierClusters)
    assert not any(isinstance(value, ClusterPlan | EarlierClusters) for value in vars(beneath).values())
    assert len(beneath.units) <= 48  # a cluster that decides nothing any more is forgotten
    assert sorted(set(beneath.labels.tolist())) == list(range(beneath.members.shape[1]))
    assert beneath.labels.dtype == np.uint8
    # Products of 40 labels of 40 clusters would be 40^40; these are numbered without gaps.
    groups = plan.clusters.pinned_groups(SHAPE)
    assert sorted(np.unique(groups)) == list(range(len(np.unique(groups))))
    pinned = _pinned(plan, pack(mask))
    labels = torch.from_numpy(np.array(pinned.clusters.labels)).view(SHAPE)
    assert pinned.clusters.k == len(labels.unique()) == len(np.unique(groups))
    again = mask_of_scores(pinned, some_scores(2))
    for part in labels.unique():
        assert int((~again)[labels == part].sum()) == int((~mask)[labels == part].sum())
    if granularity != "column":
        assert len(swap_groups(plan, SHAPE).unique()) == len(np.unique(groups))


def test_a_new_clustering_of_everything_forgets_the_earlier_ones():
    levels = [("weight", np.arange(48) % 5, (0.1, 0.2, 0.3, 0.4, 0.5)), ("row", np.arange(6) % 2, (0.5, 0.25))]
    beneath = nested_plan([*levels, ("column", np.zeros(8, int), (None,))]).clusters.beneath
    assert (beneath.units, beneath.sparsity) == (("row", "row"), (0.5, 0.25))
    assert len(set(beneath.labels.tolist())) == 2
    assert nested_plan([("row", np.zeros(6, int), (None, 0.5))] * 2).clusters.beneath is None  # of nothing


def test_plans_that_say_the_same_are_equal():
    levels = [("row", np.arange(6) % 2, (0.5, None)), ("column", np.arange(8) % 2, (None, None))]
    plan, same = nested_plan(levels).clusters, nested_plan(levels).clusters
    assert (plan, hash(plan)) == (same, hash(same))
    levels[0] = ("row", np.arange(6) % 2, (0.25, None))
    assert nested_plan(levels).clusters != plan


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_clusterings_of_another_shape_are_refused(unit):
    first = ClusterPlan("weight", np.arange(48) % 2, (0.5, None))
    wrong = ClusterPlan(unit, np.zeros(7, int), (0.5,), first)
    with pytest.raises(UserError, match="cluster again"):
        ClusterPlan("row", np.zeros(6, int), (None,), wrong)
    for shape in ((8, 8), (3, 8)):
        rows = ClusterPlan("column", np.zeros(8, int), (None,), ClusterPlan("row", np.arange(6) % 2, (0.5, None)))
        with pytest.raises(UserError, match="cluster again"):
            rows.pinned_groups(shape)
        with pytest.raises(UserError, match="cluster again"):
            mask_of_scores(LayerPlan("q", "layer", 1.0, 0.5, replace(rows, labels=np.zeros(8, int))), torch.ones(shape))


def test_labels_above_32767_get_a_wider_type():
    labels = np.arange(40_000)
    assert np.array_equal(frozen_labels(labels, 40_000), labels)
    assert frozen_labels(labels, 40_000).dtype == np.int32
    assert frozen_labels(labels[:32_767], 32_767).dtype == np.int16
    wide = ClusterPlan("weight", labels, (0.5,) * 40_000)
    assert np.array_equal(wide.labels, labels)
    with pytest.raises(UserError, match="from 0 to 39998"):
        frozen_labels(labels, 39_999)
