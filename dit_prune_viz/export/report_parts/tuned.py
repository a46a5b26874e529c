"""The layers whose units were clustered, with a figure of their units and a line per cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.errors import Progress
from dit_prune_viz.export.report_parts.content import ClusterLine, TunedLayer
from dit_prune_viz.export.report_parts.drawings import drawing
from dit_prune_viz.figures.unit_scatter import AXES, unit_scatter
from dit_prune_viz.masks.damage import ClusterDamage, cluster_damage
from dit_prune_viz.masks.layer_plan import ClusterPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel

MOST_DRAWN = 12
"""Layers whose units are drawn; tables of the others remain."""
DOTS = 2_000
"""Units that are drawn of a layer: as SVG, which prints sharply, more would take seconds."""


def gather_tuned(
    pruned: PrunedModel,
    statistics: Statistics | None,
    clusters: Mapping[str, Clusters] | None,
    progress: Progress | None = None,
) -> tuple[tuple[TunedLayer, ...], list[str]]:
    """The clustered layers, those with sparsities by hand first, and what has to be said about them.

    Args:
        pruned: what is reported.
        statistics: of its inputs; None leaves energies, damages and drawings out.
        clusters: layer → clusters with their names; None takes those of the plan.
        progress: called before every layer; may raise `Cancelled`.
    """
    found = _found(pruned, clusters)
    names = sorted(found, key=lambda name: not _ruled(pruned, name))
    made, drawn, sampled = [], 0, False
    for done, name in enumerate(names):
        if progress:
            progress(done, len(names), f"Report: clusters of {name}")
        one = found[name]
        draws = statistics is not None and drawn < MOST_DRAWN
        drawn += draws
        sampled = sampled or (draws and len(one.labels) > DOTS)
        made.append(_tuned(pruned, statistics, name, one, draws=draws))
    notes = []
    if sampled:
        notes.append(
            f"Of layers with more than {DOTS:,} units a stratified sample of {DOTS:,} is drawn over the density of all "
            "units; tables are of all."
        )
    if drawn < len(names) and statistics is not None:
        notes.append(f"The units of {drawn} of the {len(names)} clustered layers are drawn; all have their table.")
    if names and statistics is None:
        notes.append("The layers' inputs were not at hand, so energy and damage per cluster are not known.")
    return tuple(made), notes


def _found(pruned: PrunedModel, clusters: Mapping[str, Clusters] | None) -> dict[str, Clusters]:
    if clusters is not None:
        return {name: clusters[name] for name in pruned.plan.layers if name in clusters}
    plans = {name: layer.clusters for name, layer in pruned.plan.layers.items() if layer.clusters is not None}
    return {name: _clusters(plan) for name, plan in plans.items()}


def _clusters(plan: ClusterPlan) -> Clusters:
    """The clusters of a plan, with their names where it knows them."""
    return Clusters(plan.unit, "as the plan has them", plan.labels, plan.k, tags=plan.tags)


def _ruled(pruned: PrunedModel, name: str) -> bool:
    plan = pruned.plan.layer(name).clusters
    return plan is not None and plan.rules


def _tuned(
    pruned: PrunedModel, statistics: Statistics | None, name: str, clusters: Clusters, *, draws: bool
) -> TunedLayer:
    mask = pruned.layers[name].mask
    if statistics is None:
        rows = _counted(mask.unpack().cpu().numpy(), clusters)
    else:
        square = statistics.mean_square(name, centred=pruned.recipe.centred)
        rows = cluster_damage(pruned.model.weight(name), square, mask.unpack(), clusters)
    asked = _asked(pruned.plan.layer(name).clusters, clusters)
    lines = tuple(ClusterLine(*parts) for parts in zip(clusters.tags, rows, asked, strict=True))
    drawn = _drawing(pruned, statistics, name, clusters) if draws else None
    return TunedLayer(name, clusters.unit, clusters.algorithm, lines, drawn)


def _asked(plan: ClusterPlan | None, clusters: Clusters) -> Sequence[float | None]:
    """The sparsities that the plan gives to these very clusters."""
    if plan is None or plan.k != clusters.k or plan.unit != clusters.unit:
        return (None,) * clusters.k
    return plan.sparsity if np.array_equal(plan.labels, clusters.labels) else (None,) * clusters.k


def _drawing(pruned: PrunedModel, statistics: Statistics, name: str, clusters: Clusters):
    points = plane(pruned.model.weight(name), statistics.norm(name), clusters.unit)
    x_label, y_label = AXES[clusters.unit]
    figure = unit_scatter(
        points,
        clusters.labels,
        stratified_sample(points, DOTS),
        unit=clusters.unit,
        x_label=x_label,
        y_label=y_label,
        title=escape(name),
        names=[escape(tag.name) for tag in clusters.tags],
        looks=[tag.look for tag in clusters.tags],
        svg=True,
    )
    figure.update_layout(dragmode="zoom")
    return drawing(f"units-{name}", name, f"Every dot is a {clusters.unit} of the layer.", figure)


def _counted(keep: np.ndarray, clusters: Clusters) -> tuple[ClusterDamage, ...]:
    """Sizes and sparsities alone."""
    kept = {"row": keep.sum(1), "column": keep.sum(0), "weight": keep.ravel()}[clusters.unit]
    each = keep.size // len(clusters.labels)
    kept = np.bincount(clusters.labels, kept, clusters.k)
    rows = []
    for i, units in enumerate(clusters.sizes.tolist()):
        weights = units * each
        sparsity = 1 - kept[i] / weights if weights else 0.0
        rows.append(ClusterDamage(i, units, weights, float(sparsity), math.nan, math.nan))
    return tuple(rows)
