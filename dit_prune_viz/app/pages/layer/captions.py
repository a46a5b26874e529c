"""A layer, its units and its clusters in words, as the Layer page says them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dit_prune_viz.app import formatting as words
from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.masks.damage import ClusterDamage

RANKED = {"layer": "over the whole layer", "row": "inside each output row", "column": "inside each input column"}


def describe_unit(session: Session, layer: str, index: int) -> str:
    """One line about a unit, for hovering."""
    clusters = session.need_clusters(layer)
    unit, d_in = clusters.unit, session.model.layer(layer).shape[1]
    if not 0 <= index < len(clusters.labels):
        return ""
    cluster = clusters.tags[clusters.labels[index]].name
    found = layer_data.summary(session, layer, unit, np.array([index]))
    if unit == "weight":
        row, column = divmod(index, d_in)
        weight = float(session.model.weight(layer)[row, column])
        norm = float(layer_data.norm(session, layer)[column])
        state = "pruned" if found.sparsity else "kept"
        return f"weight {row}, {column} · {cluster} · W = {weight:.3g} · ‖X_j‖₂ = {norm:.3g} · {state}"
    return (
        f"{unit} {index:,} · {cluster} · {words.percent(found.energy, 3)} of the layer's energy · "
        f"{words.percent(found.sparsity)} pruned"
    )


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


def how_chosen(session: Session, layer: str) -> str:
    """What the clusters were found in, and how their number was chosen."""
    clusters = session.need_clusters(layer)
    if clusters.algorithm not in ("kmeans", "gmm", "hdbscan"):
        return f"{clusters.k} clusters, made by hand."
    units, most = len(clusters.labels), 5_000 if clusters.algorithm == "hdbscan" else 20_000
    fitted = f"a sample of {most:,} of {units:,}" if units > most else f"all {units:,}"
    return f"Found on {fitted} {clusters.unit}s by log₁₀ weight norm and log₁₀ activation norm, standardised."


def figures_of_selection(session: Session, layer: str, units: Sequence[int]) -> ClusterDamage:
    """What the selected units hold and cost under the present mask. UserError for units the layer does not have."""
    unit = session.need_clusters(layer).unit
    return layer_data.summary(session, layer, unit, np.asarray(units, dtype=np.int64))
