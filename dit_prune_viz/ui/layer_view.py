"""The pictures of one layer, from a session: units in a plane, saliencies with the cut, the importance plane."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from dit_prune_viz.clustering import plane, profiles, project, stratified_sample
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.importance_plane import importance_plane
from dit_prune_viz.figures.saliency_histogram import saliency_histogram
from dit_prune_viz.figures.unit_scatter import unit_scatter
from dit_prune_viz.plan import ClusterDamage, ClusterPlan, cluster_damage
from dit_prune_viz.ui import ranking, words
from dit_prune_viz.ui.session import Session

MAX_DOTS = 20_000
MAX_UMAP = 5_000
AXES = {
    "row": ("log₁₀ weight norm of the row", "log₁₀ norm of its output"),
    "column": ("log₁₀ weight norm of the column", "log₁₀ ‖X_j‖₂ of its input"),
    "weight": ("log₁₀ |W_ij|", "log₁₀ ‖X_j‖₂ of its input"),
}
RANKED = {"layer": "over the whole layer", "row": "inside each output row", "column": "inside each input column"}
PROJECTED_AXES = {"pca": ("first component", "second component"), "umap": ("UMAP 1", "UMAP 2")}


def is_clustered(session: Session | None, layer: str | None) -> bool:
    """Whether there is anything to show of the layer."""
    return session is not None and session.plan is not None and layer in session.clusters


def clustering_id(session: Session, layer: str) -> str | None:
    """A short name for how the units of a layer are grouped, to tell what a slider or a lasso was meant for.

    The same grouping found again has the same name. None where the layer has no clusters.
    """
    if not is_clustered(session, layer):
        return None
    clusters = session.clusters[layer]
    return f"{session.model.number}-{clusters.unit}-{clusters.k}-{zlib.crc32(clusters.labels):08x}"


def units_figure(session: Session, layer: str, projection: str) -> Figure:
    """The layer's units coloured by cluster; above 20,000 a stratified sample over the density of all.

    `projection` is "plane", or "pca" or "umap" of the channels' profiles over the timesteps. UMAP is fitted on at most
    5,000 units, and only those are drawn.
    """
    model, calibration, _ = session.need_plan()
    clusters = session.need_clusters(layer)
    weight, unit = model.weight(layer), clusters.unit
    points = plane(weight, calibration.norm(layer), unit)
    shown = stratified_sample(points, MAX_UMAP if projection == "umap" else MAX_DOTS)
    x_label, y_label = AXES[unit] if projection == "plane" else PROJECTED_AXES[projection]
    if projection != "plane":
        features = profiles(weight, calibration.sum_squares[layer].sqrt().float(), unit, chosen=shown)
        points = np.full(points.shape, np.nan, dtype=np.float32)
        points[shown] = project(features, method=projection)
    return unit_scatter(
        points,
        clusters.labels,
        shown,
        unit=unit,
        x_label=x_label,
        y_label=y_label,
        title=layer,
        subject=clustering_id(session, layer),
    )


def cut_figure(session: Session, layer: str) -> Figure:
    """Histogram of saliencies, kept and pruned."""
    plan = session.need_plan()[2].layer(layer)
    keep = session.masks[layer].unpack().numpy()
    single = plan.granularity == "layer" and plan.clusters is None
    return saliency_histogram(session.scores(layer).cpu().numpy(), keep, single_cut=single)


def plane_figure(session: Session, layer: str) -> Figure:
    return importance_plane(session.scores(layer).cpu().numpy())


def caption(session: Session, layer: str) -> str:
    """One line above the cluster table."""
    model, _, plan = session.need_plan()
    report = next(report for report in session.report.layers if report.name == layer)
    d_out, d_in = model.layer(layer).shape
    ranked = RANKED.get(report.granularity, f"{report.granularity} along each row")
    by_hand = ", with a sparsity per cluster" if plan.layer(layer).clusters is not None else ""
    return (
        f"{layer}: {d_out:,} × {d_in:,} weights, ranked {ranked}{by_hand}. "
        f"Sparsity {words.percent(report.sparsity, 2)}, predicted damage {words.percent(report.damage, 2)}, "
        f"G_out {report.g_out:.3g}."
    )


def figures_of_selection(session: Session, layer: str, units: Sequence[int]) -> ClusterDamage:
    """What the selected units hold and cost under the present mask. UserError for units the layer does not have."""
    model = session.need_plan()[0]
    clusters = session.need_clusters(layer)
    chosen = np.asarray(units, dtype=np.int64)
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(clusters.labels)):
        raise UserError("The selection belongs to another layer; select again.")
    labels = np.zeros(len(clusters.labels), dtype=np.int16)
    labels[chosen] = 1
    selection = ClusterPlan(clusters.unit, labels, (0.0, 0.0))
    mask = session.masks[layer].unpack()
    return cluster_damage(model.weight(layer), ranking.mean_square(session, layer), mask, selection)[1]
