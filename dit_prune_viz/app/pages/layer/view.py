"""The pictures of one layer, from a session: its units, importance plane, saliencies and timesteps, all linked.

Every picture comes as a figure in JSON under a key that says all it was made from, and is remembered by that key.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np

from dit_prune_viz.app.session import layer_data, layer_selection
from dit_prune_viz.app.session.layer_subject import subject
from dit_prune_viz.app.session.metric_cut import metric_cut
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.cluster_choice import cluster_choice
from dit_prune_viz.figures.importance_plane import importance_plane
from dit_prune_viz.figures.saliency_histogram import saliency_histogram
from dit_prune_viz.figures.timestep_lines import timestep_lines
from dit_prune_viz.figures.unit_scatter import AXES, unit_scatter

MAX_DOTS = 20_000
UMAP_AXES = ("UMAP: near dots are alike", "")


@dataclass(frozen=True)
class View:
    """How a layer is looked at. projection: "plane", "pca" or "umap"; most: dots drawn at most; order: see
    `layer_selection.ORDERS`; overlay: whether the mask lies on the importance plane."""

    layer: str | None = None
    projection: str = "plane"
    most: int = MAX_DOTS
    order: str = "original"
    overlay: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure that is only made if its key is a new one."""

    key: tuple
    make: Callable[[], Figure]

    def to_json(self, session: Session) -> str:
        """The figure in JSON, made at most once for all visitors."""
        return layer_data.cached(session, "json", self.key, lambda: self.make().to_json())


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
        drawn = layer_data.drawn_units(session, layer, unit, view.projection, view.most)
        bins, y_range = (), None
        if flat:
            calibration = session.need_calibration()[1]
            edges, watched = calibration.edges, layer_data.watched_bins(session, layer)
            bins = [f"{edges[i + 1]:.1f}–{edges[i]:.1f}" for i in watched] if len(watched) > 1 else ()
            moved = layer_data.frames(session, layer, unit, drawn)
            y_range = (min(moved.min(), points[:, 1].min()), max(moved.max(), points[:, 1].max()))
        else:
            placed = layer_data.projected(session, layer, unit, view.projection, view.most)
            points = np.full(points.shape, np.nan, dtype=np.float32)
            points[drawn] = placed
        x_label, y_label = AXES[unit] if flat else _projected_axes(session, view, unit)
        figure = unit_scatter(
            points,
            clusters.labels,
            drawn,
            unit=unit,
            x_label=x_label,
            y_label=y_label,
            title=layer,
            subject=subject(session, layer),
            names=[escape(tag.name) for tag in clusters.tags],
            looks=[tag.look for tag in clusters.tags],
            cut=metric_cut(session, layer) if ruled else None,
            y_range=y_range,
            frames=bins,
            scaled=view.projection != "umap",
        )
        return _in_file(figure, layer, f"{unit}s" if flat else f"{unit}s-{view.projection}")

    return Picture(("units", *key, view.most, *cut), make)


def _projected_axes(session: Session, view: View, unit: str) -> tuple[str, str]:
    """What the axes of a projection are: of PCA with the share of the variance that each shows."""
    if view.projection == "umap":
        return UMAP_AXES
    shares = layer_data.explained_shares(session, view.layer, unit, view.most)
    first, second = (f"{100 * share:.0f} % of the variance" for share in shares)
    return f"first component, {first}", f"second component, {second}"


def plane_picture(session: Session, view: View, selection: Selection) -> Picture:
    """All saliencies in bins, sorted as the view says, with the selected units marked."""
    layer, unit = view.layer, session.need_clusters(view.layer).unit
    bins = layer_selection.bins_key(session, layer, view.order, overlay=view.overlay)

    def make() -> Figure:
        plane = layer_selection.importance_bins(session, layer, view.order, overlay=view.overlay)
        selected = layer_selection.selected_flags(session, layer, selection.ids) if len(selection) else None
        return _in_file(importance_plane(plane, unit=unit, selected=selected, overlay=view.overlay), layer, "plane")

    return Picture(("plane", *bins, unit, _crc(selection.ids)), make)


def cut_picture(session: Session, view: View, selection: Selection) -> Picture:
    """Histogram of all saliencies, kept and pruned, the selection's among them."""
    layer, unit = view.layer, session.need_clusters(view.layer).unit
    plan = session.need_plan()[2].layer(layer)
    single = plan.granularity == "layer" and plan.clusters is None
    mask = layer_data.mask_key(session, layer)
    key = ("cut", *layer_data.score_key(session, layer), mask, single, unit, _crc(selection.ids))

    def make() -> Figure:
        scores, keep = layer_data.score_array(session, layer), layer_data.keep_array(session, layer)
        selected = layer_selection.selected_weights(session, layer, selection.ids) if len(selection) else None
        return _in_file(saliency_histogram(scores, keep, single_cut=single, selected=selected), layer, "saliencies")

    return Picture(key, make)


def timesteps_picture(session: Session, view: View, selection: Selection) -> Picture:
    """Root mean square activation over the timestep bins, of every cluster and of the selection."""
    layer, clusters = view.layer, session.need_clusters(view.layer)
    key = ("timesteps", *layer_data.basis_key(session, layer), *layer_data.labels_key(clusters), clusters.tags)

    def make() -> Figure:
        lines = layer_data.timestep_lines(session, layer, selection.ids)
        figure = timestep_lines(
            lines.centres,
            lines.clusters,
            names=[escape(tag.name) for tag in clusters.tags],
            looks=[tag.look for tag in clusters.tags],
            selection=lines.selection,
            y_label="RMS output" if clusters.unit == "row" else "RMS input",
        )
        return _in_file(figure, layer, "timesteps")

    return Picture((*key, _crc(selection.ids)), make)


def cluster_choice_picture(session: Session, layer: str) -> Picture | None:
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


def _in_file(figure: Figure, layer: str, what: str) -> Figure:
    """The figure with the name of the file into which a person saves it."""
    figure.layout.meta |= {"file": f"{layer}-{what}"}
    return figure


def _crc(ids: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(ids))
