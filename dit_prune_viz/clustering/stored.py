"""Projections kept on disk by what they were made from, so that UMAP of a layer is waited for once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from dit_prune_viz.clustering.project import project
from dit_prune_viz.errors import Progress

VERSION = 1
"""Raised whenever the same features would be projected differently."""


def stored_projection(
    features: np.ndarray, *, method: str, seed: int = 0, folder: Path | None = None, progress: Progress | None = None
) -> np.ndarray:
    """As `project`, from the cache folder where the same features were projected before.

    The folder is $XDG_CACHE_HOME/dit_prune_viz/projections unless given; one that cannot be written to is done without.
    """
    features = np.ascontiguousarray(features)
    about = f"{VERSION} {method} {seed} {features.shape} {features.dtype}".encode()
    name = hashlib.sha256(about + features.tobytes()).hexdigest()
    path = (cache_folder() if folder is None else folder) / f"{name}.npz"
    found = _load(path, len(features))
    if found is None:
        found = project(features, method=method, seed=seed, progress=progress)
        _save(path, found)
    return found


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dit_prune_viz" / "projections"


def _load(path: Path, units: int) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            points = stored["points"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    good = points.shape == (units, 2) and points.dtype == np.float32 and np.isfinite(points).all()
    return points if good else None


def _save(path: Path, points: np.ndarray) -> None:
    """Under a passing name first, so that nobody reads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            np.savez(part, points=points)
        os.replace(part.name, path)
    except OSError:
        return
