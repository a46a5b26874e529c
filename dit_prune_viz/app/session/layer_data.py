"""What the Layer page reads off a session, and keys that tell when it would read the same again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.clustering.profiles import profiles
from dit_prune_viz.clustering.project import explained
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.clustering.stored import stored_projection
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.damage import ClusterDamage
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.modulation import RowPart
from dit_prune_viz.pipelines.modulation import row_parts as find_row_parts
from dit_prune_viz.pruning.curves import damage_curves

MAX_UMAP = 5_000
MAX_PROJECTED = 100_000
SMALL = 1 << 17
"""Points of layers with no more units are kept between calls."""


def norm(session: Session, layer: str) -> Tensor:
    """‖X_j‖₂ of the layer's inputs, (d_in,), over all timesteps alike."""
    return session.need_calibration()[1].norm(layer)


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
    return layer, session.recipe.centred, _crc(norm(session, layer).cpu().numpy())


def score_key(session: Session, layer: str) -> tuple[Hashable, ...]:
    """The same while the layer's saliencies are."""
    return (*basis_key(session, layer), session.recipe.timestep, session.recipe.saliency)


def mask_key(session: Session, layer: str) -> int:
    return _crc(session.masks[layer].bits.cpu().numpy())


def labels_key(clusters: Clusters) -> tuple[Hashable, ...]:
    return clusters.unit, clusters.k, _crc(clusters.labels)


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array))


def cached(session: Session, name: str, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
    """What `make` gives, remembered for all users of the app by its content key."""
    return session.need_model().cache.get(("view", name, *key), make)


def row_parts(session: Session, layer: str) -> tuple[RowPart, ...]:
    """What the rows of a modulation layer modulate, see `modulation.row_parts`; none for other layers."""
    model = session.need_model()
    return cached(session, "parts", (layer,), lambda: find_row_parts(model.transformer, model.layer(layer)))


def score_array(session: Session, layer: str) -> np.ndarray:
    """The saliencies that ranked the layer's weights as an array (d_out, d_in)."""
    return session.scores(layer).cpu().numpy()


def keep_array(session: Session, layer: str) -> np.ndarray:
    """Bool (d_out, d_in): whether the present mask keeps each weight."""
    return session.masks[layer].unpack().cpu().numpy()


def weight_and_norm(session: Session, layer: str, row: int, column: int) -> tuple[float, float]:
    """W_ij and ‖X_j‖₂ of a single weight."""
    return float(session.need_model().weight(layer)[row, column]), float(norm(session, layer)[column])


def points(session: Session, layer: str, unit: str) -> np.ndarray:
    """The layer's units in the weight–activation plane, float32 (units, 2)."""

    def make() -> np.ndarray:
        return plane(session.need_model().weight(layer), norm(session, layer), unit)

    if unit == "weight" and session.need_model().layer(layer).weights > SMALL:
        return make()
    return cached(session, "points", (*basis_key(session, layer), unit), make)


def drawn_units(session: Session, layer: str, unit: str, projection: str, most: int) -> np.ndarray:
    """The units that are drawn, ascending: all, or a stratified sample of at most `most` (5,000 for UMAP)."""
    limit = min(most, {"umap": MAX_UMAP, "pca": MAX_PROJECTED}.get(projection, most))
    key = (*basis_key(session, layer), unit, limit)
    return cached(session, "drawn", key, lambda: stratified_sample(points(session, layer, unit), limit))


def projected(
    session: Session, layer: str, unit: str, projection: str, most: int, progress: Progress | None = None
) -> np.ndarray:
    """PCA or UMAP of the profiles of the units that are drawn, float32 (drawn, 2), from memory or disk if known."""

    def make() -> np.ndarray:
        drawn = drawn_units(session, layer, unit, projection, most)
        features = profiles(session.need_model().weight(layer), norm_bins(session, layer), unit, chosen=drawn)
        return stored_projection(features, method=projection, cache=session.store.disk, progress=progress)

    calibration = session.need_calibration()[1]
    bins = _crc(calibration.sum_squares[layer].numpy())
    return cached(session, "projected", (*basis_key(session, layer), unit, projection, most, bins), make)


def explained_shares(session: Session, layer: str, unit: str, most: int) -> tuple[float, float]:
    """The shares of the variance of the units' profiles that the two axes of their PCA show."""

    def make() -> tuple[float, float]:
        drawn = drawn_units(session, layer, unit, "pca", most)
        features = profiles(session.need_model().weight(layer), norm_bins(session, layer), unit, chosen=drawn)
        return explained(features, projected(session, layer, unit, "pca", most))

    bins = _crc(session.need_calibration()[1].sum_squares[layer].numpy())
    return cached(session, "explained", (*basis_key(session, layer), unit, most, bins), make)


def activity(session: Session, layer: str, unit: str) -> np.ndarray:
    """Mean square activation of every row's output or column's input per timestep bin, float32 (units, bins).

    Of a single weight it is that of its column. Rows as under independent inputs, Σ_j W_ij²·E[x_j²]. NaN where no token
    was seen.
    """
    weight = session.need_model().weight(layer)
    calibration = session.need_calibration()[1]

    def make() -> np.ndarray:
        tokens = calibration.tokens[layer].double()
        square = (calibration.sum_squares[layer] / tokens[:, None]).float()  # 0 / 0 is NaN
        if unit != "row":
            return square.T.numpy().copy()
        dense = weight.float()
        return ((dense * dense) @ square.T.to(dense.device)).cpu().numpy()

    key = (
        *basis_key(session, layer),
        "row" if unit == "row" else "column",
        _crc(calibration.sum_squares[layer].numpy()),
    )
    return cached(session, "activity", key, make)


def watched_bins(session: Session, layer: str) -> list[int]:
    """The timestep bins in which anything was watched, from noise to picture."""
    return [
        i for i, tokens in reversed(list(enumerate(session.need_calibration()[1].tokens[layer].tolist()))) if tokens
    ]


def frames(session: Session, layer: str, unit: str, drawn: np.ndarray) -> np.ndarray:
    """log10 activation norm of the units that are drawn in every watched bin, float32 (bins, drawn).

    As if all tokens had been watched in that bin, so that bins compare with each other and with all of them.
    """
    square = activity(session, layer, unit)
    units = drawn % len(square) if unit == "weight" else drawn
    tokens = float(session.need_calibration()[1].tokens[layer].sum())
    values = square[units][:, watched_bins(session, layer)].T * np.float32(tokens)
    positive = values > 0
    floor = values[positive].min() if positive.any() else 1.0
    return np.ascontiguousarray(0.5 * np.log10(np.maximum(values, floor)))


@dataclass(frozen=True, eq=False)
class TimestepLines:
    """Root mean square activation over the watched bins, from noise to picture.

    centres: middle of every bin. clusters: (k, bins). selection: (bins,), None where nothing is selected.
    """

    centres: list[float]
    clusters: np.ndarray
    selection: np.ndarray | None


def timestep_lines(session: Session, layer: str, selected: np.ndarray) -> TimestepLines:
    """Activation of every cluster of the layer and of the selected units over the timesteps."""
    clusters, bins = session.need_clusters(layer), watched_bins(session, layer)
    square = activity(session, layer, clusters.unit)[:, bins].astype(np.float64)
    d_in = len(square)
    if clusters.unit == "weight":
        cells = clusters.labels.reshape(-1, d_in)
        of_clusters = np.stack([(cells == i).sum(0) @ square for i in range(clusters.k)])
        of_selection = np.bincount(selected % d_in, minlength=d_in) @ square
    else:
        of_clusters = np.stack([np.bincount(clusters.labels, column, clusters.k) for column in square.T], axis=1)
        of_selection = square[selected].sum(0)
    edges = session.need_calibration()[1].edges
    return TimestepLines(
        [(edges[i] + edges[i + 1]) / 2 for i in bins],
        np.sqrt(of_clusters / np.maximum(1, clusters.sizes)[:, None]),
        np.sqrt(of_selection / len(selected)) if len(selected) else None,
    )


@dataclass(frozen=True, eq=False)
class UnitSums:
    """Of every row or column: its energy and its pruned energy ÷ the layer's energy, and the share of it pruned."""

    energy: np.ndarray
    damage: np.ndarray
    sparsity: np.ndarray


def unit_sums(session: Session, layer: str, unit: str) -> UnitSums:
    """The figures of all rows or columns under the present mask, float64 (units,) each."""

    def make() -> UnitSums:
        weight = session.need_model().weight(layer).cpu().float()
        square = session.mean_square(layer).cpu().float()
        energy = (weight * weight).mul_(square)
        cut = ~session.masks[layer].unpack().cpu()
        axis = 1 if unit == "row" else 0
        whole = energy.sum(axis, dtype=torch.float64)
        total = float(whole.sum()) or 1.0
        lost = energy.mul_(cut).sum(axis, dtype=torch.float64)
        share = cut.sum(axis).double() / cut.shape[axis]
        return UnitSums(whole.numpy() / total, lost.numpy() / total, share.numpy())

    return cached(session, "sums", (*basis_key(session, layer), unit, mask_key(session, layer)), make)


def cluster_rows(session: Session, layer: str) -> tuple[ClusterDamage, ...]:
    """As `Session.cluster_rows`, remembered; clusters of rows or columns are summed up from their units."""
    clusters = session.need_clusters(layer)
    key = (*basis_key(session, layer), mask_key(session, layer), *labels_key(clusters))

    def make() -> tuple[ClusterDamage, ...]:
        if clusters.unit == "weight":
            return session.cluster_rows(layer)
        sums, each = unit_sums(session, layer, clusters.unit), session.masks[layer].weights // len(clusters.labels)
        sparsity, damage, energy = (
            np.bincount(clusters.labels, values, clusters.k) for values in (sums.sparsity, sums.damage, sums.energy)
        )
        sizes = clusters.sizes
        shares = sparsity / np.maximum(1, sizes)
        return tuple(
            ClusterDamage(i, int(sizes[i]), int(sizes[i]) * each, float(shares[i]), float(damage[i]), float(energy[i]))
            for i in range(clusters.k)
        )

    return cached(session, "rows", key, make)


def cluster_curves(session: Session, layer: str) -> np.ndarray | None:
    """Damage over sparsity of every cluster, (k, points); None under N:M, where no sparsity can be chosen."""
    clusters, granularity = session.need_clusters(layer), session.need_plan()[2].layer(layer).granularity
    if n_of_m(granularity):
        return None

    def make() -> np.ndarray:
        weight, square = session.need_model().weight(layer), session.mean_square(layer)
        return damage_curves(session.scores(layer), weight, square, clusters, granularity)

    return cached(session, "curves", (*score_key(session, layer), *labels_key(clusters), granularity), make)


def summary(session: Session, layer: str, unit: str, units: np.ndarray) -> ClusterDamage:
    """What units hold and cost under the present mask. UserError for units the layer does not have."""
    shape = session.need_model().layer(layer).shape
    if units.size and not (units.min() >= 0 and units.max() < count_units(shape, unit)):
        raise UserError("The selection belongs to another layer; select again.")
    each = {"row": shape[1], "column": shape[0], "weight": 1}[unit]
    if unit == "weight":
        total = float(energy_of_layer(session, layer)) or 1.0
        weight = session.need_model().weight(layer).flatten().cpu()[torch.from_numpy(units.astype(np.int64))].double()
        square = session.mean_square(layer).cpu().double()[torch.from_numpy(units % shape[1]).long()]
        energy = (weight.square() * square).numpy() / total
        bits = session.masks[layer].bits.cpu().numpy()
        cut = (bits[units >> 3] >> (units & 7).astype(np.uint8) & 1) == 0
        return _damage(units, each, cut.mean() if units.size else 0.0, energy[cut].sum(), energy.sum())
    sums = unit_sums(session, layer, unit)
    share = sums.sparsity[units].mean() if units.size else 0.0
    return _damage(units, each, share, sums.damage[units].sum(), sums.energy[units].sum())


def _damage(units: np.ndarray, each: int, sparsity: float, damage: float, energy: float) -> ClusterDamage:
    return ClusterDamage(0, len(units), len(units) * each, float(sparsity), float(damage), float(energy))


def energy_of_layer(session: Session, layer: str) -> float:
    """The layer's energy Σ W_ij²·E[x_j²]."""

    def make() -> float:
        weight = session.need_model().weight(layer).cpu().float()
        columns = (weight * weight).sum(0, dtype=torch.float64)
        return float(columns @ session.mean_square(layer).cpu().double())

    return cached(session, "total", basis_key(session, layer), make)
