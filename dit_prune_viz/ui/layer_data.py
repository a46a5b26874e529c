"""What the Layer page reads off a session, and keys that tell when it would read the same again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.clustering import Clusters, plane, profiles, stratified_sample
from dit_prune_viz.clustering.stored import stored_projection
from dit_prune_viz.errors import Progress

if TYPE_CHECKING:
    from dit_prune_viz.ui.session import Session

MAX_UMAP = 5_000
MAX_PROJECTED = 100_000
SMALL = 1 << 17
"""Points of layers with no more units are kept between calls."""


def norm(session: Session, layer: str) -> Tensor:
    """‖X_j‖₂ of the layer's inputs, (d_in,), as the plan ranks by it."""
    return session.need_calibration()[1].norm(layer)


def mean_square(session: Session, layer: str) -> Tensor:
    """E[x_j²] of the layer's inputs, (d_in,), as predicted damage weighs by it."""
    return session.need_calibration()[1].mean_square(layer)


def norm_bins(session: Session, layer: str) -> Tensor:
    """‖X_j‖₂ per timestep bin, (bins, d_in) float32, as if all tokens had been watched in that bin.

    So bins with few tokens compare with others, and with ‖X_j‖₂ over all of them.
    """
    calibration = session.need_calibration()[1]
    tokens = calibration.tokens[layer].double()
    scale = torch.where(tokens > 0, tokens.sum() / tokens.clamp(min=1), 0.0)
    return (calibration.sum_squares[layer] * scale[:, None]).sqrt().float()


def basis_key(session: Session, layer: str) -> tuple[Hashable, ...]:
    """The same while weights and input statistics are."""
    return session.need_model().number, layer, _crc(norm(session, layer).cpu().numpy())


def score_key(session: Session, layer: str) -> tuple[Hashable, ...]:
    """The same while the layer's saliencies are."""
    return (*basis_key(session, layer), session.need_plan()[2].saliency)


def mask_key(session: Session, layer: str) -> int:
    return _crc(session.masks[layer].bits.cpu().numpy())


def labels_key(clusters: Clusters) -> tuple[Hashable, ...]:
    return clusters.unit, clusters.k, _crc(clusters.labels)


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array))


def kept(session: Session, name: str, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
    """What `make` gives, remembered for all users of the app by its content key."""
    return session.workspace.views.get((name, *key), make)


def scores(session: Session, layer: str) -> Tensor:
    """The saliencies (d_out, d_in) that ranked the layer's weights; those of the layers looked at last are kept."""
    return session.workspace.scores.get(score_key(session, layer), lambda: session.scores(layer))


def points(session: Session, layer: str, unit: str) -> np.ndarray:
    """The layer's units in the weight–activation plane, float32 (units, 2)."""

    def make() -> np.ndarray:
        return plane(session.need_model().weight(layer), norm(session, layer), unit)

    if unit == "weight" and session.need_model().layer(layer).weights > SMALL:
        return make()
    return kept(session, "points", (*basis_key(session, layer), unit), make)


def shown_units(session: Session, layer: str, unit: str, projection: str, most: int) -> np.ndarray:
    """The units that are drawn, ascending: all, or a stratified sample of at most `most` (5,000 for UMAP)."""
    limit = min(most, {"umap": MAX_UMAP, "pca": MAX_PROJECTED}.get(projection, most))
    key = (*basis_key(session, layer), unit, limit)
    return kept(session, "shown", key, lambda: stratified_sample(points(session, layer, unit), limit))


def projected(
    session: Session, layer: str, unit: str, projection: str, most: int, progress: Progress | None = None
) -> np.ndarray:
    """PCA or UMAP of the profiles of the units that are drawn, float32 (shown, 2), from memory or disk if known."""

    def make() -> np.ndarray:
        shown = shown_units(session, layer, unit, projection, most)
        features = profiles(session.need_model().weight(layer), norm_bins(session, layer), unit, chosen=shown)
        return stored_projection(features, method=projection, progress=progress)

    calibration = session.need_calibration()[1]
    bins = _crc(calibration.sum_squares[layer].numpy())
    return kept(session, "projected", (*basis_key(session, layer), unit, projection, most, bins), make)


def frames(session: Session, layer: str, unit: str, shown: np.ndarray) -> np.ndarray:
    """log10 activation norm of the shown units per timestep bin, float32 (bins, shown); constant where none was seen."""
    weight = session.need_model().weight(layer)
    bins = norm_bins(session, layer)
    return np.ascontiguousarray(profiles(weight, bins, unit, chosen=shown)[:, 1:].T)
