"""A layer, its units, its clusters and its selection in words, as the Layer page says them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.layer_subject import subject
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.masks.damage import ClusterDamage

HINT = "Draw around dots, or drag across another plot, to select units. Shift adds, Alt removes."
RANKED = {"layer": "across the whole layer", "row": "within each output row", "column": "within each input column"}
SAMPLED = {"hdbscan": 5_000}
MOST_FITTED = 20_000
"""Units that the other algorithms are fitted on at most."""


def describe_unit(session: Session, layer: str, index: int) -> str:
    """One line about a unit, for hovering; empty where the layer has no such unit."""
    clusters, d_in = session.need_clusters(layer), session.need_model().layer(layer).shape[1]
    if not 0 <= index < len(clusters.labels):
        return ""
    cluster = clusters.tags[clusters.labels[index]].name
    found = layer_data.summary(session, layer, clusters.unit, np.array([index]))
    if clusters.unit == "weight":
        row, column = divmod(index, d_in)
        weight, norm = layer_data.weight_and_norm(session, layer, row, column)
        state = "pruned" if found.sparsity else "kept"
        return (
            f"weight in row {row:,}{_part(session, layer, row)}, column {column:,} · {cluster} · W = {weight:.3g} · "
            f"‖X_j‖₂ = {norm:.3g} · {state} · {found.energy:.2g} of the layer's energy"
        )
    weight, norm = (10.0 ** float(value) for value in layer_data.points(session, layer, clusters.unit)[index])
    through = "output" if clusters.unit == "row" else "input"
    part = _part(session, layer, index) if clusters.unit == "row" else ""
    return (
        f"{clusters.unit} {index:,}{part} · {cluster} · weight norm {weight:.3g} · {through} norm {norm:.3g} · "
        f"{formatting.percent(found.energy, 3)} of the layer's energy · {formatting.percent(found.sparsity)} pruned · "
        f"predicted damage {formatting.percent(found.damage, 3)}"
    )


def _part(session: Session, layer: str, row: int) -> str:
    """What a row of a modulation layer modulates, in brackets; nothing for other layers."""
    label = next((one.label for one in layer_data.row_parts(session, layer) if one.first <= row < one.end), None)
    return f" ({label})" if label else ""


def _parts_of(session: Session, layer: str, units: np.ndarray) -> str:
    """How many of the selected rows modulate what; nothing for columns and for other layers."""
    if session.clusters[layer].unit != "row":
        return ""
    counts = [
        (int(((units >= part.first) & (units < part.end)).sum()), part.label)
        for part in layer_data.row_parts(session, layer)
    ]
    told = ", ".join(f"{count:,} {label}" for count, label in counts if count)
    return f" ({told})" if told else ""


def describe_layer(session: Session, layer: str) -> str:
    """One line above the cluster table."""
    model, _, plan = session.need_plan()
    report = next(report for report in session.report.layers if report.name == layer)
    d_out, d_in = model.layer(layer).shape
    ranked = RANKED.get(report.granularity, f"{report.granularity} along each row")
    by_hand = ", with a sparsity per cluster" if plan.layer(layer).clusters is not None else ""
    return (
        f"{layer}: {d_out:,} × {d_in:,} weights, ranked {ranked}{by_hand}. "
        f"Sparsity {formatting.percent(report.sparsity, 2)}, predicted damage {formatting.damage(report)}, "
        f"row heterogeneity (G_out) {report.g_out:.3g}."
    )


def describe_clustering(session: Session, layer: str) -> str:
    """What the clusters were found in, and on how many units."""
    clusters = session.need_clusters(layer)
    if clusters.algorithm not in ("kmeans", "gmm", "hdbscan"):
        return f"{clusters.k} clusters, edited by hand."
    units, most = len(clusters.labels), SAMPLED.get(clusters.algorithm, MOST_FITTED)
    fitted = f"a sample of {most:,} of {units:,}" if units > most else f"all {units:,}"
    return f"Fitted to {fitted} {clusters.unit}s by log₁₀ weight norm and log₁₀ activation norm, both standardised."


def selection_figures(session: Session, layer: str, units: Sequence[int]) -> ClusterDamage:
    """What the selected units hold and cost under the present mask. UserError for units the layer does not have."""
    unit = session.need_clusters(layer).unit
    return layer_data.summary(session, layer, unit, np.asarray(units, dtype=np.int64))


def describe_selection(session: Session | None, layer: str | None, selection: Selection) -> str:
    """What the selected units hold and cost under the present mask; the hint where nothing is selected."""
    if not len(selection) or selection.subject != subject(session, layer):
        return HINT
    found = selection_figures(session, layer, selection.ids)
    noun = session.clusters[layer].unit + ("" if found.units == 1 else "s")
    return (
        f"**{found.units:,} {noun} selected**{_parts_of(session, layer, selection.ids)} · "
        f"{formatting.count(found.weights)} weights · "
        f"{formatting.percent(found.energy)} of the layer's energy · sparsity {formatting.percent(found.sparsity)} · "
        f"predicted damage {formatting.percent(found.damage, 2)}"
    )
