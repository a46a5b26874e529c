"""Sparsity by hand: exact redistribution over unlocked clusters, and the curves that a slider follows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.damage import cluster_damage
from dit_prune_viz.masks.select import keep_mask_groups
from dit_prune_viz.pruning.curves import damage_curves
from dit_prune_viz.pruning.redistribute import redistribute


@st.composite
def layers(draw):
    sizes = draw(st.lists(st.integers(1, 10**7), min_size=2, max_size=6))
    counts = [draw(st.integers(0, size)) for size in sizes]
    cluster = draw(st.integers(0, len(sizes) - 1))
    others = [i for i in range(len(sizes)) if i != cluster]
    locked = draw(st.sets(st.sampled_from(others), max_size=len(others) - 1))
    return sizes, counts, cluster, draw(st.integers(0, sizes[cluster])), locked


@given(layers())
def test_the_layer_keeps_its_count_exactly_and_locked_clusters_theirs(case):
    sizes, counts, cluster, count, locked = case
    new = redistribute(sizes, counts, cluster, count, locked=locked)
    assert sum(new) == sum(counts)
    assert all(0 <= n <= size for n, size in zip(new, sizes, strict=True))
    assert all(new[i] == counts[i] for i in locked)
    # The cluster gets what was asked, or as much as the others have room for.
    low, high = sorted((counts[cluster], count))
    assert low <= new[cluster] <= high
    if new[cluster] != count:
        free = [i for i in range(len(sizes)) if i != cluster and i not in locked]
        assert all(new[i] == (sizes[i] if count < counts[cluster] else 0) for i in free)
    assert [removed(size, n / size) for size, n in zip(sizes, new, strict=True)] == new  # as sparsities they come back


@given(layers(), st.lists(st.integers(1, 50), min_size=6, max_size=6))
def test_steps_keep_the_count_to_less_than_the_largest_of_them(case, steps):
    sizes, counts, cluster, count, locked = case
    steps = steps[: len(sizes)]
    new = redistribute(sizes, counts, cluster, count, locked=locked, steps=steps)
    assert all((n - old) % step == 0 for n, old, step in zip(new, counts, steps, strict=True))
    assert all(0 <= n <= size for n, size in zip(new, sizes, strict=True))
    assert abs(sum(new) - sum(counts)) < max(steps)


def test_with_everything_locked_nothing_moves():
    with pytest.raises(UserError, match="unlock"):
        redistribute([10, 10], [5, 5], 0, 6, locked=[1])
    with pytest.raises(UserError, match="cannot lose"):
        redistribute([10, 10], [5, 5], 0, 11)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["row", "column", "weight"]),
    st.sampled_from(["layer", "row", "column"]),
    st.integers(0, 2**16),
)
def test_curves_are_the_damages_of_the_masks(unit, granularity, seed):
    random = np.random.default_rng(seed)
    shape, k = (20, 40), 3
    weight = torch.from_numpy(random.normal(size=shape).astype(np.float32))
    square = torch.from_numpy(random.random(shape[1]).astype(np.float32) + 0.1)
    scores = weight.abs() * square.sqrt()
    labels = random.integers(0, k, {"row": 20, "column": 40, "weight": 800}[unit])
    labels[:k] = range(k)
    clusters = Clusters(unit, "by hand", labels, k)
    curves = damage_curves(scores, weight, square, clusters, granularity, points=21)
    assert (np.diff(curves, axis=1) >= -1e-6).all()
    for point in (0, 10, 20):
        mask = keep_mask_groups(scores, clusters.labels, [point / 20] * k, granularity, unit)
        found = [row.damage for row in cluster_damage(weight, square, mask, clusters)]
        # Between two counts the curve is interpolated; where a share of a row is rounded down, it leaves that out.
        exact = granularity == "layer" or (unit, granularity) in (("row", "row"), ("column", "column"))
        np.testing.assert_allclose(curves[:, point], found, atol=2e-3 if exact else 0.06)


def test_curves_of_a_sample_are_close_and_end_exactly():
    random = np.random.default_rng(1)
    weight = torch.from_numpy(random.normal(size=(300, 400)).astype(np.float32))
    square = torch.from_numpy(random.random(400).astype(np.float32) + 0.1)
    scores = weight.square() * square.sqrt()
    clusters = Clusters("row", "by hand", random.integers(0, 3, 300), 3)
    for granularity in ("layer", "row", "column"):
        exact = damage_curves(scores, weight, square, clusters, granularity)
        sampled = damage_curves(scores, weight, square, clusters, granularity, sample=12_000)
        np.testing.assert_allclose(sampled[:, -1], exact[:, -1], rtol=1e-5)
        np.testing.assert_allclose(sampled, exact, atol=0.01)
    with pytest.raises(UserError, match="2:4"):
        damage_curves(scores, weight, square, clusters, "2:4")
