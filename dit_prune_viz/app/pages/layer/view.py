"""The pictures of one layer, from a session: its units, importance plane, saliencies and timesteps, all linked.

Every picture comes as a figure in JSON under a key that says all it was made from, and is remembered by that key.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.cluster_choice import cluster_choice
from dit_prune_viz.figures.importance_plane import Plane, importance_plane, make_plane
from dit_prune_viz.figures.saliency_histogram import saliency_histogram
from dit_prune_viz.figures.timestep_lines import timestep_lines
from dit_prune_viz.figures.unit_scatter import Cut, unit_scatter

MAX_DOTS = 20_000
AXES = {
    "row": ("log₁₀ weight norm of the row", "log₁₀ norm of its output"),
    "column": ("log₁₀ weight norm of the column", "log₁₀ ‖X_j‖₂ of its input"),
    "weight": ("log₁₀ |W_ij|", "log₁₀ ‖X_j‖₂ of its input"),
}
PROJECTED_AXES = {"pca": ("first component", "second component"), "umap": ("UMAP 1", "UMAP 2")}
ORDERS = {"original": "original order", "cluster": "by cluster", "energy": "by energy"}


@dataclass(frozen=True)
class View:
    """How a layer is looked at. projection: "plane", "pca" or "umap"; most: dots drawn at most; order: one of ORDERS;
    overlay: whether the mask lies on the importance plane."""

    layer: str | None = None
    projection: str = "plane"
    most: int = MAX_DOTS
    order: str = "original"
    overlay: bool = False


def is_clustered(session: Session | None, layer: str | None) -> bool:
    """Whether there is anything to show of the layer."""
    return session is not None and session.plan is not None and layer in session.clusters


def subject(session: Session | None, layer: str | None) -> str:
    """Names what a selection is of: the model, the layer and the kind of unit; empty where there is nothing to show."""
    if not is_clustered(session, layer):
        return ""
    return f"{session.model.number}/{layer}/{session.clusters[layer].unit}"


def clustering_id(session: Session, layer: str) -> str | None:
    """A short name for how the units of a layer are grouped, to tell what a slider was meant for.

    The same grouping found again has the same name. None where the layer has no clusters.
    """
    if not is_clustered(session, layer):
        return None
    clusters = session.clusters[layer]
    return f"{session.model.number}-{clusters.unit}-{clusters.k}-{zlib.crc32(clusters.labels):08x}"


@dataclass(frozen=True)
class Picture:
    """A figure that is only made if its key is a new one."""

    key: tuple
    make: Callable[[], Figure]

    def show(self, session: Session) -> str:
        """The figure in JSON."""
        return layer_data.kept(session, "json", self.key, lambda: self.make().to_json())


def units_picture(session: Session, view: View) -> Picture:
    """The layer's units coloured by cluster; above `view.most` a stratified sample over the density of all.

    PCA and UMAP are of the channels' profiles over the timesteps. UMAP is fitted on at most 5,000 units, and only those
    are drawn. Single weights are drawn with the metric's cut.
    """
    layer, clusters = view.layer, session.need_clusters(view.layer)
    unit, flat = clusters.unit, view.projection == "plane"
    ruled = unit == "weight" and flat
    cut = (layer_data.score_key(session, layer), layer_data.mask_key(session, layer)) if ruled else ()
    key = (*layer_data.basis_key(session, layer), *layer_data.labels_key(clusters), clusters.tags, view.projection)

    def make() -> Figure:
        points = layer_data.points(session, layer, unit)
        shown = layer_data.shown_units(session, layer, unit, view.projection, view.most)
        bins, y_range = (), None
        if flat:
            calibration = session.need_calibration()[1]
            edges, watched = calibration.edges, layer_data.watched_bins(session, layer)
            bins = [f"{edges[i + 1]:.1f}–{edges[i]:.1f}" for i in watched] if len(watched) > 1 else ()
            moved = layer_data.frames(session, layer, unit, shown)
            y_range = (min(moved.min(), points[:, 1].min()), max(moved.max(), points[:, 1].max()))
        else:
            placed = layer_data.projected(session, layer, unit, view.projection, view.most)
            points = np.full(points.shape, np.nan, dtype=np.float32)
            points[shown] = placed
        x_label, y_label = AXES[unit] if flat else PROJECTED_AXES[view.projection]
        return unit_scatter(
            points,
            clusters.labels,
            shown,
            unit=unit,
            x_label=x_label,
            y_label=y_label,
            title=layer,
            subject=subject(session, layer),
            names=[tag.name for tag in clusters.tags],
            looks=[tag.look for tag in clusters.tags],
            cut=metric_cut(session, layer) if ruled else None,
            y_range=y_range,
            frames=bins,
        )

    return Picture(("units", *key, view.most, *cut), make)


def metric_cut(session: Session, layer: str) -> Cut | None:
    """Where the plan's metric cuts the layer, in log10 of |W| and ‖X‖; None for metrics that are no product of both
    as drawn, and where nothing or everything is pruned."""
    plan, recipe = session.need_plan()[2], session.recipe
    if recipe.centred or recipe.timestep != "uniform":
        return None  # it is not ‖X‖ over all timesteps alike that ranks the weights
    if recipe.method.exponents is None:
        return None
    m, n = recipe.method.exponents
    keep, scores = session.masks[layer].unpack().cpu(), layer_data.scores(session, layer).cpu()
    if keep.all() or not keep.any():
        return None
    layer_plan = plan.layer(layer)
    lowest = scores.masked_fill(~keep, torch.inf)
    if layer_plan.granularity == "layer" and layer_plan.clusters is None:
        cuts = lowest.amin()[None]
    else:
        cuts = lowest.amin(0 if layer_plan.granularity == "column" else 1)
    cuts = cuts[torch.isfinite(cuts) & (cuts > 0)].log10()
    return Cut(m, n, float(cuts.min()), float(cuts.max())) if len(cuts) else None


def plane_of(session: Session, view: View) -> Plane:
    """All saliencies of the layer in bins, sorted as the view says."""
    layer, clusters = view.layer, session.need_clusters(view.layer)
    key = [*layer_data.score_key(session, layer), view.order, view.overlay]
    key += [layer_data.mask_key(session, layer)] if view.overlay else []
    key += layer_data.labels_key(clusters) if view.order == "cluster" else []

    def make() -> Plane:
        out, inn = _orders(session, view)
        keep = session.masks[layer].unpack().cpu().numpy() if view.overlay else None
        scores = layer_data.scores(session, layer).cpu().numpy()
        return make_plane(scores, keep, out=out, inn=inn, order=ORDERS[view.order])

    return layer_data.kept(session, "plane", tuple(key), make)


def _orders(session: Session, view: View) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Output and input channels as the plane sorts them, None for as they are."""
    clusters = session.need_clusters(view.layer)
    if view.order == "energy":
        sums = [layer_data.unit_sums(session, view.layer, unit).energy for unit in ("row", "column")]
        return tuple(np.argsort(-energy, kind="stable") for energy in sums)
    if view.order == "cluster" and clusters.unit != "weight":
        order = np.argsort(clusters.labels, kind="stable")
        return (order, None) if clusters.unit == "row" else (None, order)
    return None, None


def plane_picture(session: Session, view: View, selection: Selection) -> Picture:
    layer, unit = view.layer, session.need_clusters(view.layer).unit
    key = ["plane", *layer_data.score_key(session, layer), view.order, view.overlay, unit, _crc(selection.ids)]
    key += [layer_data.mask_key(session, layer)] if view.overlay else []
    key += layer_data.labels_key(session.clusters[layer]) if view.order == "cluster" else []

    def make() -> Figure:
        chosen = _chosen(session, layer, selection) if len(selection) else None
        return importance_plane(plane_of(session, view), unit=unit, selected=chosen, overlay=view.overlay)

    return Picture(tuple(key), make)


def cut_picture(session: Session, view: View, selection: Selection) -> Picture:
    """Histogram of all saliencies, kept and pruned, the selection's among them."""
    layer, clusters = view.layer, session.need_clusters(view.layer)
    plan = session.need_plan()[2].layer(layer)
    single = plan.granularity == "layer" and plan.clusters is None
    mask = layer_data.mask_key(session, layer)
    key = ("cut", *layer_data.score_key(session, layer), mask, single, clusters.unit, _crc(selection.ids))

    def make() -> Figure:
        scores = layer_data.scores(session, layer).cpu().numpy()
        keep = session.masks[layer].unpack().cpu().numpy()
        chosen = None
        if len(selection):
            units = _chosen(session, layer, selection)
            table = {"row": lambda: units[:, None], "column": lambda: units[None]}
            chosen = np.broadcast_to(table.get(clusters.unit, lambda: units.reshape(keep.shape))(), keep.shape)
        return saliency_histogram(scores, keep, single_cut=single, selected=chosen)

    return Picture(key, make)


def lines_picture(session: Session, view: View, selection: Selection) -> Picture:
    """Root mean square activation over the timestep bins, of every cluster and of the selection."""
    layer, clusters = view.layer, session.need_clusters(view.layer)
    names = [tag.name for tag in clusters.tags]
    key = ("lines", *layer_data.basis_key(session, layer), *layer_data.labels_key(clusters), clusters.tags)

    def make() -> Figure:
        bins = layer_data.watched_bins(session, layer)
        square = layer_data.activity(session, layer, clusters.unit)[:, bins].astype(np.float64)
        d_in = len(square)
        if clusters.unit == "weight":
            cells = clusters.labels.reshape(-1, d_in)
            of_clusters = np.stack([(cells == i).sum(0) @ square for i in range(clusters.k)])
            chosen = np.bincount(selection.ids % d_in, minlength=d_in) @ square
        else:
            of_clusters = np.stack([np.bincount(clusters.labels, column, clusters.k) for column in square.T], axis=1)
            chosen = square[selection.ids].sum(0)
        means = np.sqrt(of_clusters / np.maximum(1, clusters.sizes)[:, None])
        edges = session.need_calibration()[1].edges
        return timestep_lines(
            [(edges[i] + edges[i + 1]) / 2 for i in bins],
            means,
            names=names,
            looks=[tag.look for tag in clusters.tags],
            selection=np.sqrt(chosen / len(selection)) if len(selection) else None,
            y_label="RMS output" if clusters.unit == "row" else "RMS input",
        )

    return Picture((*key, _crc(selection.ids)), make)


def _chosen(session: Session, layer: str, selection: Selection) -> np.ndarray:
    """Bool (units,): whether each is selected."""
    units = np.zeros(count_units(session.model.layer(layer).shape, session.clusters[layer].unit), dtype=bool)
    units[selection.ids] = True
    return units


def units_in_plane(session: Session, view: View, x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """The units in a box of the importance plane, in the coordinates it is drawn in: a band of rows or of columns,
    or a block of single weights."""
    plane, unit = plane_of(session, view), session.need_clusters(view.layer).unit
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
    scores = layer_data.scores(session, layer).cpu()
    inside = (scores >= 10.0**low) & (scores <= 10.0**high)
    if unit == "weight":
        return torch.nonzero(inside.flatten()).flatten().numpy()
    axis = 1 if unit == "row" else 0
    return torch.nonzero(inside.sum(axis) * 2 >= inside.shape[axis]).flatten().numpy()


def units_of_cluster(session: Session, layer: str, cluster: int) -> np.ndarray:
    return np.flatnonzero(session.need_clusters(layer).labels == cluster)


def choice_picture(session: Session, layer: str) -> Picture | None:
    """How good each number of clusters was, where the algorithm chose among some."""
    choice = session.need_clusters(layer).choice
    if choice is None or not choice.sizes:
        return None

    def make() -> Figure:
        higher = choice.criterion == "silhouette"
        return cluster_choice(
            choice.sizes, choice.scores, chosen=choice.chosen, criterion=choice.criterion, higher=higher
        )

    return Picture(("choice", choice), make)


def _crc(ids: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(ids))
