"""The clustering algorithms, each fitted on a sample and returning how to label any number of points.

scikit-learn is imported where it is used: it takes a second or two, which the start of an app need not wait for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Points (n, 2) → labels (n,); −1 is noise."""


@dataclass(frozen=True)
class Choice:
    """How the number of clusters was chosen.

    criterion: "silhouette" (higher is better) or "BIC" (lower is better). sizes and scores: what was tried, and how it
    did; chosen: the size that was taken.
    """

    criterion: str
    sizes: tuple[int, ...]
    scores: tuple[float, ...]
    chosen: int


Fitted = tuple[Predict, Choice | None]

AUTO_K = range(2, 9)
"""The numbers of clusters that are tried when none is set."""

_SILHOUETTE_POINTS = 2000
_HDBSCAN_POINTS = 5000


class _Fit(Protocol):
    def __call__(self, points: np.ndarray, k: int | None, seed: int) -> Fitted: ...


def _kmeans(points: np.ndarray, k: int | None, seed: int) -> Fitted:
    """k-means; without k, the one with the best mean silhouette over a sample."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    def fit(size: int) -> KMeans:
        return KMeans(n_clusters=size, n_init=4, random_state=seed).fit(points)

    distinct = len(np.unique(points, axis=0))
    if k is not None:
        return fit(min(k, distinct)).predict, None
    some = np.random.default_rng(seed).permutation(len(points))[:_SILHOUETTE_POINTS]
    best, best_score, best_size = fit(1), 0.0, 1  # a negative silhouette means no clusters at all
    tried: dict[int, float] = {}
    for size in AUTO_K:
        if size > distinct:
            break
        model = fit(size)
        labels = model.predict(points[some])
        found = len(np.unique(labels))
        score = silhouette_score(points[some], labels) if 1 < found < len(some) else -1.0
        tried[size] = float(score)
        if score > best_score:
            best, best_score, best_size = model, score, size
    return best.predict, Choice("silhouette", tuple(tried), tuple(tried.values()), best_size)


def _gmm(points: np.ndarray, k: int | None, seed: int) -> Fitted:
    """Gaussian mixture with full covariances; without k, the one with the lowest BIC, from one Gaussian on."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    distinct = len(np.unique(points, axis=0))
    tried = [min(k, distinct)] if k is not None else [size for size in (1, *AUTO_K) if size <= distinct]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The start is k-means', and a Gaussian over equal points keeps a little width, so fits do not fail.
        models = [GaussianMixture(size, reg_covar=1e-4, random_state=seed).fit(points) for size in tried]
    scores = [float(model.bic(points)) for model in models]
    best = int(np.argmin(scores))
    return models[best].predict, None if k is not None else Choice("BIC", tuple(tried), tuple(scores), tried[best])


def _hdbscan(points: np.ndarray, k: int | None, seed: int) -> Fitted:
    """HDBSCAN, which finds the number of clusters itself (`k` is not used); a point takes its nearest neighbour's."""
    from scipy.spatial import cKDTree
    from sklearn.cluster import HDBSCAN

    points = points[np.sort(np.random.default_rng(seed).permutation(len(points))[:_HDBSCAN_POINTS])]
    smallest = min(max(5, len(points) // 50), len(points))
    labels = HDBSCAN(min_cluster_size=smallest, min_samples=min(5, smallest), copy=True).fit_predict(points)
    tree = cKDTree(points)
    return lambda others: labels[tree.query(others)[1]], None


FITS: dict[str, _Fit] = {"kmeans": _kmeans, "gmm": _gmm, "hdbscan": _hdbscan}
ALGORITHMS = tuple(FITS)
