"""Projections kept on disk by what they were made from, so that UMAP of a layer is waited for once."""

from __future__ import annotations

import numpy as np
import torch

from dit_prune_viz.clustering.project import project
from dit_prune_viz.disk_cache import DiskCache, content_key
from dit_prune_viz.errors import Progress

VERSION = 2
"""Raised whenever the same features would be projected differently."""


def stored_projection(
    features: np.ndarray, *, method: str, cache: DiskCache | None, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """As `project`, from the cache if the same features were projected before.

    Args:
        features: (units, d).
        method: "pca" or "umap".
        cache: None projects in any case.
        seed: decides UMAP's picture.
        progress: hears of UMAP's epochs; may raise `Cancelled`.

    Returns:
        float32 (units, 2).

    Raises:
        UserError: as in `project`.
    """
    if cache is None:
        return project(features, method=method, seed=seed, progress=progress)
    features = np.ascontiguousarray(features)
    kind = [VERSION, method, seed, list(features.shape), str(features.dtype)]
    key = content_key("projection", kind, features.tobytes())
    found = _find(cache, key, len(features))
    if found is None:
        found = project(features, method=method, seed=seed, progress=progress)
        cache.put(key, {"points": torch.from_numpy(np.ascontiguousarray(found))})
    return found


def _find(cache: DiskCache, key: str, units: int) -> np.ndarray | None:
    entry = cache.find(key)
    points = None if entry is None else entry.tensors.get("points")
    if points is None or points.shape != (units, 2) or points.dtype != torch.float32:
        return None
    return points.numpy() if bool(points.isfinite().all()) else None
