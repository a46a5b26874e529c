"""Clusters changed by hand, and ids that last from one run to the next."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from dit_prune_viz.clustering.clusters import Clusters, cluster
from dit_prune_viz.clustering.edit import carry, carve, match, merge, split, with_tag
from dit_prune_viz.clustering.stored import stored_projection
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, UserError

LABELS = st.lists(st.integers(0, 4), min_size=3, max_size=40)


def made(labels) -> Clusters:
    """Clusters of rows with these labels, made gapless."""
    ids, compact = np.unique(labels, return_inverse=True)
    return Clusters("row", "kmeans", compact, len(ids))


def partition(clusters: Clusters) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(clusters.labels == i).tolist()) for i in range(clusters.k)}


def test_a_cluster_that_is_called_by_its_number_follows_it_and_a_name_of_its_own_stays():
    before = made([0, 1, 2, 2, 2, 2, 3])
    one = match(made([0] * 7), before)
    assert [tag.name for tag in one.tags] == ["cluster 0"]  # not "cluster 2", which it shares most units with
    assert one.tags[0].look == before.tags[2].look
    named = match(made([0] * 7), with_tag(before, 2, name="loud"))
    assert [tag.name for tag in named.tags] == ["loud"]
    taken = match(made([0] * 7), with_tag(with_tag(before, 2, locked=True), 0, name="first"))
    assert (taken.tags[0].name, taken.tags[0].locked) == ("cluster 0", True)


@given(LABELS, LABELS)
def test_matching_changes_ids_and_never_the_partition(before, found):
    size = min(len(before), len(found))
    old, new = made(before[:size]), made(found[:size])
    matched = match(new, old)
    assert partition(matched) == partition(new)
    assert (matched.k, set(matched.labels)) == (new.k, set(range(new.k)))
    assert len({tag.name for tag in matched.tags}) == new.k
    assert len({tag.look for tag in matched.tags}) == new.k


@given(LABELS, st.permutations(range(5)))
def test_the_same_clusters_found_in_another_order_keep_ids_and_names(labels, order):
    old = with_tag(made(labels), 0, name="quiet")
    turned = made([order[label] for label in labels])
    matched = match(turned, old)
    assert np.array_equal(matched.labels, old.labels)
    assert matched.tags == old.tags


def test_clusters_of_other_units_have_nothing_in_common():
    old = with_tag(made([0, 0, 1]), 0, name="quiet")
    new = Clusters("column", "kmeans", np.array([0, 1, 1]), 2)
    assert match(new, old) is new
    assert match(new, None) is new


@given(LABELS, st.data())
def test_merging_and_carving_leave_all_other_clusters_alone(labels, data):
    clusters = made(labels)
    if clusters.k > 1:
        pair = data.draw(st.permutations(range(clusters.k)))[:2]
        joined = merge(clusters, pair)
        one = frozenset(np.flatnonzero(np.isin(clusters.labels, pair)).tolist())
        assert partition(joined) == {part for part in partition(clusters) if not part <= one} | {one}
        assert joined.tags[min(pair)].name == f"cluster {min(pair)}"
    units = data.draw(st.sets(st.integers(0, len(labels) - 1), min_size=1))
    carved = carve(clusters, np.array(sorted(units)))
    assert partition(carved) == {part - units for part in partition(clusters) if part - units} | {frozenset(units)}
    assert set(np.flatnonzero(carved.labels == carved.k - 1)) == units


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_split_parts_one_cluster_and_a_merge_undoes_it(seed):
    points = np.random.default_rng(seed).normal(size=(30, 2)).astype(np.float32)
    clusters = made(np.arange(30) % 3)
    parted = split(clusters, 1, points)
    assert parted.k == 4
    assert {1, 3} == set(parted.labels[clusters.labels == 1])
    assert partition(merge(parted, [1, 3])) == partition(clusters)


def test_what_cannot_be_done_is_one_sentence():
    clusters = made([0, 0, 1])
    for wrong in (
        lambda: merge(clusters, [0]),
        lambda: merge(clusters, [0, 2]),
        lambda: split(clusters, 1, np.zeros((3, 2))),
        lambda: split(clusters, 0, np.zeros((3, 2))),
        lambda: carve(clusters, np.array([], int)),
        lambda: carve(clusters, np.array([3])),
        lambda: with_tag(clusters, 0, name="  "),
        lambda: with_tag(clusters, 0, name="x" * 41),
        lambda: with_tag(clusters, 5, locked=True),
        lambda: with_tag(clusters, 0, look=-1),
    ):
        with pytest.raises(UserError):
            wrong()


def test_clusters_carried_to_the_same_cloud_elsewhere_are_the_same():
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(i, 0.05, (20, 2)) for i in range(3)])
    clusters = cluster(points, unit="row", k=3)
    carried = carry(clusters, points, points * 7 + 3)  # another layer has other scales
    assert carried.algorithm == "by hand"  # nobody searched there
    assert np.array_equal(carried.labels, clusters.labels)
    assert carried.tags == clusters.tags


def test_the_number_of_clusters_comes_with_the_curve_it_was_read_off():
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(5 * i, 0.1, (30, 2)) for i in range(3)])
    for algorithm, criterion, best in (("kmeans", "silhouette", max), ("gmm", "BIC", min)):
        choice = cluster(points, unit="row", algorithm=algorithm, k=None).choice
        assert (choice.criterion, choice.chosen) == (criterion, 3)
        assert choice.sizes[choice.scores.index(best(choice.scores))] == 3
    assert cluster(points, unit="row", k=3).choice is None


def test_a_projection_is_made_once_and_read_from_disk_from_then_on(tmp_path):
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    cache = DiskCache(tmp_path)
    first = stored_projection(features, method="pca", cache=cache)
    (stored,) = tmp_path.glob("*.safetensors")
    cache.put(stored.stem, {"points": torch.from_numpy(first + 1)})
    assert np.array_equal(stored_projection(features, method="pca", cache=cache), first + 1)
    assert np.array_equal(stored_projection(features, method="pca", cache=None), first)
    for damaged in ({"points": torch.zeros(49, 2)}, {"points": torch.full((50, 2), torch.nan)}, {}):
        cache.put(stored.stem, damaged)
        assert np.array_equal(stored_projection(features, method="pca", cache=cache), first)
    stored.write_bytes(b"broken")
    assert np.array_equal(stored_projection(features, method="pca", cache=cache), first)
    assert len(list(tmp_path.glob("*"))) == 1
    stored_projection(features + 1e-3, method="pca", cache=cache)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_umap_says_how_far_it_is_and_can_be_stopped(tmp_path):
    features = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)

    def stop(done, total, what):
        if what == "UMAP epochs":
            raise Cancelled

    with pytest.raises(Cancelled):
        stored_projection(features, method="umap", cache=DiskCache(tmp_path), progress=stop)
    assert not list(tmp_path.iterdir())
    free = threading.Thread(target=lambda: tqdm(range(1)).close(), daemon=True)
    free.start()
    free.join(10)
    assert not free.is_alive()  # the lock of everybody's progress bars was let go of
