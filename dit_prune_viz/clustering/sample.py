"""A small sample that keeps the shape of a cloud of millions of dots."""

from __future__ import annotations

import numpy as np

_CELLS = 64
"""Strata per axis."""


def stratified_sample(points: np.ndarray, size: int, *, seed: int = 0) -> np.ndarray:
    """Indices, ascending, of at most `size` of `points` (n, 2), the same for a seed.

    The strata are the cells of a grid over the cloud: all points are lined up cell by cell, in random order inside a
    cell, and every (n / size)-th is taken, so that every cell gives its share.
    """
    n = len(points)
    if size >= n:
        return np.arange(n)
    random = np.random.default_rng(seed)
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) * ((_CELLS - 1) / np.maximum(high - low, np.finfo(np.float32).tiny))).astype(np.int16)
    shuffled = random.permutation(n)
    line = shuffled[np.argsort((cells[:, 0] * _CELLS + cells[:, 1])[shuffled], kind="stable")]
    return np.sort(line[((np.arange(size) + random.random()) * (n / size)).astype(np.int64)])
