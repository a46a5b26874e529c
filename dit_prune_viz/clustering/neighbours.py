"""Which units of a layer are most like a given one: nearest neighbours in standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dit_prune_viz.clustering.scale import standardise


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of every asked unit, nearest first.

    asked: (q,) indices of units. found, distances: (q, k), indices and Euclidean distances in standardised features.
    """

    asked: np.ndarray
    found: np.ndarray
    distances: np.ndarray


def nearest(features: np.ndarray, asked: np.ndarray, k: int) -> Neighbours:
    """The k units nearest to each asked one, itself left out; fewer where there are not that many.

    Args:
        features: (units, d) of all units, in any units of measurement: every column is standardised.
        asked: (q,) indices of the units whose neighbours are wanted.
        k: how many, at least 1.
    """
    from sklearn.neighbors import NearestNeighbors  # takes longer to import than the first page may

    scaled, asked = standardise(features), np.asarray(asked, dtype=np.int64)
    k = min(k, len(scaled) - 1)
    # One more, because a unit is nearest to itself; of several in the same place it need not come first, or at all.
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(scaled)
    candidates = search.kneighbors(scaled[asked], return_distance=False)
    found = np.empty((len(asked), k), dtype=np.int64)
    for row, (unit, near) in enumerate(zip(asked, candidates, strict=True)):
        found[row] = near[near != unit][:k]
    distances = np.linalg.norm(scaled[found] - scaled[asked][:, None], axis=2)
    order = np.lexsort((found, distances))
    return Neighbours(asked, np.take_along_axis(found, order, 1), np.take_along_axis(distances, order, 1))
