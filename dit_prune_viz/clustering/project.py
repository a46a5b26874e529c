"""From many features per unit to two coordinates."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from dit_prune_viz.clustering.scale import standardise
from dit_prune_viz.errors import Progress, UserError

PROJECTIONS = ("pca", "umap")
_POLL_SECONDS = 0.1


def project(
    features: np.ndarray, *, method: str = "pca", seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """Coordinates float32 (units, 2) of standardised `features` (units, d), by PCA or UMAP, the same for a seed.

    `progress` hears of UMAP's epochs and may stop them by raising. UserError for an unknown method, fewer than 3 units,
    NaN or infinite features.
    """
    if method not in PROJECTIONS:
        raise UserError(f"There is no projection '{method}'; choose one of {', '.join(PROJECTIONS)}.")
    if len(features) < 3:
        raise UserError("A projection needs at least 3 units; choose another unit or a larger layer.")
    if not np.isfinite(features).all():
        raise UserError("The features hold NaN or infinite values; calibrate again in float32 or bfloat16.")
    features = standardise(features)
    return (_pca(features) if method == "pca" else _umap(features, seed, progress)).astype(np.float32)


def explained(features: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """The shares of the standardised features' variance that the two coordinates of a PCA have."""
    total = float(standardise(features).var(axis=0, dtype=np.float64).sum())
    first, second = (float(share) / (total or 1.0) for share in points.var(axis=0, dtype=np.float64))
    return first, second


def _pca(features: np.ndarray) -> np.ndarray:
    _, vectors = np.linalg.eigh(features.T @ features)  # d is small, the number of units may be millions
    axes = np.zeros((features.shape[1], 2))
    main = vectors[:, ::-1][:, :2]
    # An axis has no direction of its own: its largest entry is made positive, so that pictures do not flip.
    signs = np.sign(main[np.abs(main).argmax(axis=0), range(main.shape[1])])
    axes[:, : main.shape[1]] = main * signs
    return features @ axes


class _Epochs:
    """A file that tqdm writes to and that remembers what it reads there.

    Nothing may be raised in here: tqdm holds a lock of the whole process while it writes, and would never let go of it.
    """

    done, total = 0, 1

    def write(self, text: str) -> None:
        done, _, total = text.strip("\r\n ").partition("/")
        if done.isdigit() and total.isdigit():
            self.done, self.total = int(done), int(total)

    def flush(self) -> None:
        pass


def _umap(features: np.ndarray, seed: int, progress: Progress | None) -> np.ndarray:
    if progress:
        progress(0, 1, "UMAP: finding neighbours")
    from umap import UMAP  # takes seconds to import

    neighbours = min(15, len(features) - 1)
    # The spectral start needs more units than it has coordinates and neighbours.
    start = "spectral" if len(features) > 2 * neighbours else "random"
    epochs = _Epochs()
    watch = {"disable": False, "file": epochs, "bar_format": "{n_fmt}/{total_fmt}", "mininterval": 0.2}

    def fit() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the seed costs, and about equal units
            mapper = UMAP(
                n_neighbors=neighbours,
                min_dist=0.1,
                init=start,
                random_state=seed,
                n_jobs=1,
                tqdm_kwds=watch if progress else None,
            )
            return np.asarray(mapper.fit_transform(features))

    return _watched(fit, epochs, progress) if progress else fit()


def _watched(fit: Callable[[], np.ndarray], epochs: _Epochs, progress: Progress) -> np.ndarray:
    """What `fit` gives, from a thread beside the one that reports; called off, the thread ends unheard by itself."""
    outcome: Future[np.ndarray] = Future()

    def work() -> None:
        try:
            outcome.set_result(fit())
        except BaseException as problem:
            outcome.set_exception(problem)

    threading.Thread(target=work, name="umap", daemon=True).start()
    while True:
        try:
            return outcome.result(_POLL_SECONDS)
        except TimeoutError:
            if outcome.done():
                raise
            progress(epochs.done, epochs.total, "UMAP epochs")
