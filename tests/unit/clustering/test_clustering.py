"""Planes, profiles, projections, samples and clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from dit_prune_viz.clustering.algorithms import ALGORITHMS
from dit_prune_viz.clustering.clusters import Clusters, cluster
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.clustering.profiles import profiles
from dit_prune_viz.clustering.project import explained, project
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.errors import UserError

NAN = float("nan")


def blobs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled points of well separated clouds on a diagonal, and the cloud each comes from, lowest first."""
    random = np.random.default_rng(seed)
    clouds = [random.normal((i, 2 * i), 0.06, (size, 2)) for i, size in enumerate(sizes)]
    order = random.permutation(sum(sizes))
    return np.concatenate(clouds)[order].astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)[order]


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**31), unit=st.sampled_from("rcw"))
def test_plane_and_profiles_are_the_naive_formulas(rows, columns, seed, unit):
    unit = {"r": "row", "c": "column", "w": "weight"}[unit]
    random = np.random.default_rng(seed)
    weight, bins = random.normal(size=(rows, columns)).astype(np.float32), random.random((3, columns)) + 0.1
    size = {
        "row": [np.sqrt(sum(weight[i, j].astype(float) ** 2 for j in range(columns))) for i in range(rows)],
        "column": [np.sqrt(sum(weight[i, j].astype(float) ** 2 for i in range(rows))) for j in range(columns)],
        "weight": [abs(float(w)) for row in weight for w in row],
    }[unit]

    def activation(norm: np.ndarray) -> list[float]:
        return {
            "row": [np.sqrt(sum((float(weight[i, j]) * norm[j]) ** 2 for j in range(columns))) for i in range(rows)],
            "column": list(norm),
            "weight": list(norm) * rows,
        }[unit]

    found = plane(torch.from_numpy(weight), torch.from_numpy(bins[0]), unit)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log10([size, activation(bins[0])]).T, rtol=1e-5, atol=1e-5)
    features = profiles(torch.from_numpy(weight), torch.from_numpy(bins), unit)
    np.testing.assert_allclose(features, np.log10([size, *map(activation, bins)]).T, rtol=1e-5, atol=1e-5)
    chosen = random.permutation(len(size))[: len(size) // 2 + 1]
    some = profiles(torch.from_numpy(weight), torch.from_numpy(bins), unit, chosen=chosen)
    np.testing.assert_allclose(some, features[chosen], rtol=1e-5, atol=1e-5)


def test_zeros_lie_at_the_smallest_positive_value():
    weight = torch.tensor([[0.0, 0.1], [0.0, 0.0], [0.0, 10.0]])
    norm = torch.tensor([0.0, 100.0])
    np.testing.assert_allclose(plane(weight, norm, "row"), [[-1, 1], [-1, 1], [1, 3]], atol=1e-4)
    np.testing.assert_allclose(plane(weight, norm, "column"), [[1, 2], [1, 2]], atol=1e-4)
    assert plane(weight * 0, torch.zeros(2), "weight").tolist() == [[0, 0]] * 6


def test_bfloat16_weights():
    weight = torch.rand(4, 5).bfloat16()
    for unit in ("row", "column", "weight"):
        assert np.array_equal(plane(weight, torch.ones(5), unit), plane(weight.float(), torch.ones(5), unit))


def test_bad_planes():
    with pytest.raises(UserError, match="no unit 'head'"):
        plane(torch.ones(2, 3), torch.ones(3), "head")
    with pytest.raises(UserError, match="do not belong together"):
        plane(torch.ones(2, 3), torch.ones(2), "row")
    with pytest.raises(UserError, match="do not belong together"):
        profiles(torch.ones(2, 3), torch.ones(3), "row")
    for weight, norm in ((torch.full((2, 3), NAN), torch.ones(3)), (torch.ones(2, 3), torch.full((3,), NAN))):
        with pytest.raises(UserError, match="NaN or infinite"):
            plane(weight, norm, "weight")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("k", [3, None])
def test_separate_clouds_are_found_and_numbered_from_low_to_high(algorithm, k):
    points, truth = blobs([60, 150, 90])
    found = cluster(points, unit="row", algorithm=algorithm, k=k)
    kept = found.labels != (found.noise if found.noise is not None else -1)
    assert kept.mean() > 0.9
    assert np.array_equal(found.labels[kept], truth[kept])
    assert found.k == 3 + (found.noise is not None)
    assert (found.unit, found.algorithm) == ("row", algorithm)
    assert found.sizes.sum() == len(points)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_clusters(algorithm):
    points = np.random.default_rng(2).normal(size=(400, 2))
    first = cluster(points, unit="column", algorithm=algorithm, seed=5)
    second = cluster(points, unit="column", algorithm=algorithm, seed=5)
    assert np.array_equal(first.labels, second.labels)
    means = [points[first.labels == i, 1].mean() for i in range(first.k) if i != first.noise]
    assert means == sorted(means)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_units_are_fitted_on_a_sample_and_all_assigned(algorithm):
    points, truth = blobs([40_000, 9_000, 1_000])
    found = cluster(points, unit="weight", algorithm=algorithm, k=3, sample=3_000)
    assert found.labels.shape == (50_000,)
    assert (found.labels == truth).mean() > 0.95


def test_noise_is_the_last_cluster():
    points, truth = blobs([200, 200])
    far = np.array([[30.0, 5], [-30, 7], [0, -40], [15, 60]])
    found = cluster(np.concatenate([points, far]), unit="row", algorithm="hdbscan")
    assert found.noise == found.k - 1
    assert (found.labels[-4:] == found.noise).all()
    assert set(found.labels[:-4][truth == 0]) - {found.noise} == {0}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, None])
def test_few_units(algorithm, n, k):
    points = np.arange(2.0 * n).reshape(n, 2)
    found = cluster(points, unit="row", algorithm=algorithm, k=k)
    assert found.labels.shape == (n,)
    assert set(found.labels) == set(range(found.k))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equal_points_are_one_cluster(algorithm):
    found = cluster(np.full((30, 2), 0.7), unit="row", algorithm=algorithm, k=4)
    assert (found.k, found.labels.tolist()) == (1, [0] * 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "head"}, "no unit 'head'"),
        ({"algorithm": "dbscan"}, "no clustering algorithm 'dbscan'"),
        ({"k": 0}, "whole number from 1 to 10, not 0"),
        ({"k": 11}, "whole number from 1 to 10, not 11"),
        ({"k": 2.5}, "whole number"),
        ({"k": "3"}, "whole number"),
        ({"points": np.full((10, 2), NAN)}, "no points"),
        ({"points": np.zeros((0, 2))}, "no points"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"points": np.random.default_rng(0).random((10, 2)), "unit": "row"} | options
    with pytest.raises(UserError, match=message):
        cluster(arguments.pop("points"), **arguments)


def test_clusters_cannot_be_changed():
    labels = np.array([0, 1, 1])
    found = Clusters("row", "lasso", labels, 2)
    labels[0] = 1
    assert found.labels.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        found.labels[0] = 1
    for bad in ([0, 2], [-1, 0], [0.5, 1], []):
        with pytest.raises(UserError, match="Cluster ids"):
            Clusters("row", "lasso", np.array(bad), 2)


def test_a_sample_keeps_the_shares_of_all_parts():
    points, truth = blobs([80_000, 15_000, 5_000])
    chosen = stratified_sample(points, 1_000, seed=1)
    assert len(np.unique(chosen)) == 1_000
    assert np.array_equal(chosen, np.sort(chosen))
    # Random draws would scatter by about 13, 11 and 7.
    assert np.abs(np.bincount(truth[chosen]) - [800, 150, 50]).max() <= 2
    assert np.array_equal(chosen, stratified_sample(points, 1_000, seed=1))
    assert not np.array_equal(chosen, stratified_sample(points, 1_000, seed=2))


def test_a_sample_of_few_or_equal_points():
    assert stratified_sample(np.random.default_rng(0).random((5, 2)), 10).tolist() == [0, 1, 2, 3, 4]
    assert len(np.unique(stratified_sample(np.ones((50, 2)), 20))) == 20


def test_pca_finds_the_directions_of_most_spread():
    random = np.random.default_rng(0)
    hidden = random.normal(size=(500, 2)) * [3, 1]
    features = np.column_stack([hidden @ random.normal(size=(2, 6)), np.full(500, 4.2)])
    found = project(features)
    scaled = features[:, :6] / features[:, :6].std(axis=0)
    variances = np.linalg.eigvalsh(np.cov(scaled.T, bias=True))[::-1][:2]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.var(axis=0), variances, rtol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(project(features * 7 - 2), found, atol=1e-4)  # units of measurement do not matter


def test_the_variance_that_each_axis_explains_is_that_of_scikit_learn():
    features = np.random.default_rng(3).normal(size=(60, 5)) @ np.diag([9, 5, 1, 1, 0.5]) @ np.ones((5, 5)) ** 2
    features += np.random.default_rng(4).normal(size=(60, 5))
    features[:, 4] = 7.0  # a bin without inputs
    scaled = (features - features.mean(0))[:, :4] / features.std(0)[:4]
    known = PCA(n_components=2).fit(scaled).explained_variance_ratio_
    assert explained(features, project(features)) == pytest.approx(known.tolist(), rel=1e-4)


def test_pca_of_one_feature():
    found = project(np.array([[1.0], [2.0], [4.0]]))
    assert found[:, 1].tolist() == [0, 0, 0]
    assert np.all(np.diff(found[:, 0]) > 0)


def test_umap_keeps_neighbours_together():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 1, (20, 5)), random.normal(12, 1, (20, 5))])
    found = project(features, method="umap", seed=3)
    assert found.shape == (40, 2)
    assert found.dtype == np.float32
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert ((nearest < 20) == (np.arange(40) < 20)).all()
    assert np.array_equal(found, project(features, method="umap", seed=3))
    assert project(features[:5], method="umap").shape == (5, 2)


def test_bad_projections():
    with pytest.raises(UserError, match="no projection 'tsne'"):
        project(np.ones((5, 3)), method="tsne")
    with pytest.raises(UserError, match="at least 3"):
        project(np.ones((2, 3)))
    with pytest.raises(UserError, match="NaN"):
        project(np.full((5, 3), NAN))
