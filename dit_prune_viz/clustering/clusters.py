"""Clusters of a layer's units."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dit_prune_viz.clustering.algorithms import ALGORITHMS, FITS, Choice
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.clustering.scale import standardise
from dit_prune_viz.clustering.units import LAYER, check_unit
from dit_prune_viz.errors import UserError

MAX_K = 64
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Tag:
    """How a person knows a cluster: its name, the index of its colour and symbol, whether its sparsity is locked."""

    name: str
    look: int
    locked: bool = False


@dataclass(frozen=True, eq=False)
class Clusters:
    """A cluster id for every unit of a layer, or for every layer of a model.

    unit: one of UNITS, or LAYER. algorithm: one of ALGORITHMS, or the name of another origin, such as "lasso".
    labels: (units,), ids 0..k−1, read-only, see `frozen_labels`; single weights row by row. k: the number of clusters.
    noise: the id of the cluster of units that HDBSCAN left out (always the last), None where there is none.
    tags: one per cluster, "cluster 0" and so on unless given. choice: how k was found, None where it was set.
    UserError for an unknown unit, ids outside 0..k−1, or tags that are not k.
    """

    unit: str
    algorithm: str
    labels: np.ndarray
    k: int
    noise: int | None = None
    tags: tuple[Tag, ...] = field(default=(), repr=False)
    choice: Choice | None = None

    def __post_init__(self) -> None:
        _check(self.unit)
        object.__setattr__(self, "labels", frozen_labels(self.labels, self.k))
        if not self.tags:
            object.__setattr__(self, "tags", tuple(Tag(f"cluster {i}", i) for i in range(self.k)))
        if len(self.tags) != self.k:
            raise UserError(f"There are {self.k} clusters but {len(self.tags)} names; cluster again.")

    @property
    def sizes(self) -> np.ndarray:
        """The number of units in every cluster, int64 (k,)."""
        return np.bincount(self.labels, minlength=self.k)


def frozen_labels(labels: np.ndarray, k: int) -> np.ndarray:
    """Cluster ids (units,) as read-only int16, int32 above 32,767 clusters; copied unless they are that already.

    UserError if they are not whole numbers from 0 to k − 1.
    """
    labels = np.asarray(labels)
    whole = labels.ndim == 1 and labels.size and np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= k:
        raise UserError(f"Cluster ids must be whole numbers from 0 to {k - 1}, one for every unit; cluster again.")
    kind = np.int16 if k <= np.iinfo(np.int16).max else np.int32
    if labels.dtype != kind or labels.flags.writeable:
        labels = labels.astype(kind)
        labels.flags.writeable = False
    return labels


def cluster(
    points: np.ndarray,
    *,
    unit: str,
    algorithm: str = "kmeans",
    k: int | None = 4,
    seed: int = 0,
    sample: int = 20_000,
) -> Clusters:
    """Cluster units by their coordinates `points` (units, 2), in the weight–activation plane or another projection.

    Both axes are standardised first. Layers with more than `sample` units are fitted on a stratified sample, then every
    unit gets a label. k=None chooses the number of clusters, by silhouette (kmeans) or BIC (gmm); HDBSCAN always finds
    its own. Fewer than k clusters come back where there are fewer distinct points. Ids ascend with the mean of the
    second coordinate (activation norm), then of the first, so that they are stable; HDBSCAN's noise is the last.
    UserError for an unknown unit or algorithm, k outside 1..64, k above the number of units, NaN or infinite points.
    """
    _check(unit)
    if algorithm not in ALGORITHMS:
        raise UserError(f"There is no clustering algorithm '{algorithm}'; choose one of {', '.join(ALGORITHMS)}.")
    if not len(points) or not np.isfinite(points).all():
        raise UserError("There are no points to cluster, or some are NaN or infinite; calibrate the model again.")
    if k is not None and not (isinstance(k, int | np.integer) and 1 <= k <= min(MAX_K, len(points))):
        raise UserError(f"The number of clusters must be a whole number from 1 to {min(MAX_K, len(points))}, not {k}.")
    scaled = standardise(points)
    if len(points) == 1:
        return Clusters(unit, algorithm, np.zeros(1, np.int16), 1)
    predict, choice = FITS[algorithm](scaled[stratified_sample(scaled, sample, seed=seed)], k, seed)
    found = np.concatenate([predict(scaled[start : start + _CHUNK]) for start in range(0, len(scaled), _CHUNK)])
    return _in_order(found, scaled, unit, algorithm, choice)


def _check(unit: str) -> None:
    if unit != LAYER:
        check_unit(unit)


def _in_order(
    found: np.ndarray, points: np.ndarray, unit: str, algorithm: str, choice: Choice | None = None
) -> Clusters:
    """Clusters with ids in order of their centres, from any labels; those below 0 are noise."""
    ids, labels = np.unique(found, return_inverse=True)
    sizes = np.bincount(labels)
    x, y = (np.bincount(labels, weights=points[:, axis]) / sizes for axis in (0, 1))
    order = np.lexsort((x, y, ids < 0))  # the last key rules
    rank = np.empty(len(ids), np.int16)
    rank[order] = np.arange(len(ids))
    noise = len(ids) - 1 if ids[0] < 0 else None
    return Clusters(unit, algorithm, rank[labels], len(ids), noise=noise, choice=choice)
