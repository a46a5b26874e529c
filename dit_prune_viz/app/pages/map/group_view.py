"""The scatter of all layers in their groups, from a session, and what is said of groups and of selected layers."""

from __future__ import annotations

from html import escape

import numpy as np

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.layer_groups import BY_BLOCK, BY_KIND, groups_of, layer_plane, map_subject, weights_alone
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures import layer_plane as figures
from dit_prune_viz.figures.statistic import STATISTICS
from dit_prune_viz.figures.style import message

EMPTY = "All layers appear here once the model is loaded."
HINT = (
    "Every dot is a layer; a click opens it. Draw around dots to select layers (Shift adds, Alt takes away) and make a "
    "group of them. A group's slider prunes all its layers alike."
)
WAYS = [
    ("kind", BY_KIND),
    ("block", BY_BLOCK),
    ("k-means", "kmeans"),
    ("Gaussian mixture", "gmm"),
    ("HDBSCAN", "hdbscan"),
]
_GROUPED = {value: f"in {label} groups" for label, value in WAYS} | {
    BY_KIND: "by kind",
    BY_BLOCK: "by block",
    BY_HAND: "grouped by hand",
}


def grouped_how(session: Session) -> str:
    """How the layers are grouped, in two or three words."""
    return _GROUPED[groups_of(session).algorithm]


def plane_figure(session: Session | None) -> Figure:
    """Every layer's activation norm over its weight scale; before calibration its magnitude damage."""
    if session is None or session.model is None or not session.layer_statistics:
        return message(EMPTY)
    groups, layers, ready = groups_of(session), session.model.layers, session.statistics is not None
    y = "activation_norm" if ready else "magnitude_damage"
    reports = {one.name: one for one in session.report.layers} if session.report else {}
    told = []
    for layer, group in zip(layers, groups.labels, strict=True):
        known, report = session.layer_statistics[layer.name], reports.get(layer.name)
        lines = [f"{layer.kind}, {layer.place} · {escape(groups.tags[group].name)} · {layer.weights:,} weights"]
        lines.append(f"weight scale {known.weight_scale:.3g}, {STATISTICS[y].label.lower()} {getattr(known, y):.3g}")
        if report:
            lines.append(
                f"{formatting.percent(report.sparsity)} pruned, predicted damage {formatting.damage(report)}"
                f", ranked by {report.granularity}"
            )
        told.append("<br>".join(lines))
    return figures.layer_plane(
        layer_plane(session) if ready else weights_alone(session),
        groups.labels,
        [layer.name for layer in layers],
        told,
        groups=[escape(tag.name) for tag in groups.tags],
        looks=[tag.look for tag in groups.tags],
        x_label=STATISTICS["weight_scale"].label,
        y_label=STATISTICS[y].label + ("" if ready else ", not calibrated yet"),
        grouped=grouped_how(session),
        subject=map_subject(session),
        y_logarithmic=ready,
    )


def describe_selection(session: Session | None, selection: Selection) -> str:
    """What the selected layers hold and cost; the hint where nothing is selected."""
    ids = selection.of(map_subject(session)).ids
    if not len(ids):
        return HINT
    layers = [session.model.layers[i] for i in ids.tolist()]
    weights = sum(layer.weights for layer in layers)
    words = f"**{len(layers):,} layer{'' if len(layers) == 1 else 's'} selected** · {formatting.count(weights)} weights"
    if session.report is None:
        return words
    reports = {one.name: one for one in session.report.layers}
    chosen = [reports[layer.name] for layer in layers]
    share = weights / session.report.weights
    lost = sum(one.removed for one in chosen) / weights
    damage = sum(one.damage * one.weights for one in chosen) / weights
    return (
        f"{words}, {formatting.percent(share)} of the prunable · sparsity {formatting.percent(lost)} · their predicted "
        f"damage {formatting.percent(damage)}"
    )


def checked_layers(session: Session | None, ids: np.ndarray) -> np.ndarray:
    """Those of the ids that are layers of the session's model."""
    many = len(session.model.layers) if session is not None and session.model is not None else 0
    return ids[(ids >= 0) & (ids < many)]
