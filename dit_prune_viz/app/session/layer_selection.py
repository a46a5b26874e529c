"""Which units of a layer a person means: those in a band of the importance plane, in a range of saliencies, in a
cluster; and the plane itself, whose bins say which units lie where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dit_prune_viz.app.session import layer_data
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures.importance_plane import Plane, make_plane

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session

ORDERS = {"original": "original order", "cluster": "by cluster", "energy": "by energy"}
"""How the plane sorts output and input channels, and what it calls that."""


def checked_units(session: Session, layer: str, ids: np.ndarray) -> np.ndarray:
    """`ids` themselves. UserError where the layer has no such unit."""
    ids = np.asarray(ids, dtype=np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < unit_count(session, layer)):
        raise UserError("The selection belongs to another layer; select again.")
    return ids


def unit_count(session: Session, layer: str) -> int:
    """How many units the layer has, of the kind its clusters are of."""
    return count_units(session.need_model().layer(layer).shape, session.need_clusters(layer).unit)


def selected_flags(session: Session, layer: str, ids: np.ndarray) -> np.ndarray:
    """Bool (units,): whether each unit is selected."""
    flags = np.zeros(unit_count(session, layer), dtype=bool)
    flags[ids] = True
    return flags


def selected_weights(session: Session, layer: str, ids: np.ndarray) -> np.ndarray:
    """Bool (d_out, d_in): whether each weight belongs to a selected unit."""
    shape, unit = session.need_model().layer(layer).shape, session.need_clusters(layer).unit
    flags = selected_flags(session, layer, ids)
    return np.broadcast_to(flags.reshape({"row": (-1, 1), "column": (1, -1), "weight": shape}[unit]), shape)


def importance_bins(session: Session, layer: str, order: str = "original", *, overlay: bool = False) -> Plane:
    """All saliencies of the layer in bins.

    Args:
        order: how channels are sorted, one of ORDERS.
        overlay: whether the bins also know which share of their weights is pruned.
    """

    def make() -> Plane:
        out, inn = _channel_orders(session, layer, order)
        keep = layer_data.keep_array(session, layer) if overlay else None
        bands = [(part.first, part.end, part.label) for part in layer_data.row_parts(session, layer)]
        scores = layer_data.score_array(session, layer)
        return make_plane(scores, keep, out=out, inn=inn, order=ORDERS[order], bands=bands)

    return layer_data.cached(session, "plane", bins_key(session, layer, order, overlay=overlay), make)


def bins_key(session: Session, layer: str, order: str, *, overlay: bool) -> tuple:
    """The same while the bins of the plane are."""
    key = [*layer_data.score_key(session, layer), order, overlay]
    key += [layer_data.mask_key(session, layer)] if overlay else []
    key += layer_data.labels_key(session.need_clusters(layer)) if order == "cluster" else []
    return tuple(key)


def _channel_orders(session: Session, layer: str, order: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Output and input channels as the plane sorts them, None for as they are."""
    clusters = session.need_clusters(layer)
    if order == "energy":
        sums = [layer_data.unit_sums(session, layer, unit).energy for unit in ("row", "column")]
        return tuple(np.argsort(-energy, kind="stable") for energy in sums)
    if order == "cluster" and clusters.unit != "weight":
        ranks = np.argsort(clusters.labels, kind="stable")
        return (ranks, None) if clusters.unit == "row" else (None, ranks)
    return None, None


def units_in_plane(
    session: Session,
    layer: str,
    x: Sequence[float],
    y: Sequence[float],
    order: str = "original",
    *,
    overlay: bool = False,
) -> np.ndarray:
    """The units in a box of the importance plane, in the coordinates it is drawn in: a band of rows or of columns,
    or a block of single weights. `order` and `overlay` are those with which it is drawn."""
    plane, unit = importance_bins(session, layer, order, overlay=overlay), session.need_clusters(layer).unit
    rows = plane.out[_within(y, plane.out_edges)]
    columns = plane.inn[_within(x, plane.in_edges)]
    if unit == "weight":
        return (rows[:, None] * len(plane.inn) + columns[None]).ravel()
    return rows if unit == "row" else columns


def _within(ends: Sequence[float], edges: np.ndarray) -> slice:
    """The positions of the bins whose drawn cells a range touches by more than half."""
    low, high = sorted(float(end) for end in ends)
    starts = edges[:-1]
    hit = np.flatnonzero((starts >= low) & (starts <= high))
    return slice(0, 0) if not hit.size else slice(int(edges[hit[0]]), int(edges[hit[-1] + 1]))


def units_in_range(session: Session, layer: str, low: float, high: float) -> np.ndarray:
    """The units with at least half of their weights' saliencies from 10^low to 10^high."""
    unit = session.need_clusters(layer).unit
    scores = layer_data.score_array(session, layer)
    low, high = np.clip([low, high], -300.0, 300.0)
    inside = (scores >= 10.0**low) & (scores <= 10.0**high)
    if unit == "weight":
        return np.flatnonzero(inside)
    axis = 1 if unit == "row" else 0
    return np.flatnonzero(inside.sum(axis) * 2 >= inside.shape[axis])


def units_of_cluster(session: Session, layer: str, cluster: int) -> np.ndarray:
    """The units of one cluster, none for a number that no cluster has."""
    return np.flatnonzero(session.need_clusters(layer).labels == cluster)
