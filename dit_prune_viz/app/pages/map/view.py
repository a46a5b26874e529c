"""The map's pictures, from a session: a heat map of any statistic, and every layer as a dot."""

from __future__ import annotations

import math
from dataclasses import replace

from dit_prune_viz.app.formatting import markdown
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.calibration.layer_statistics import activation_norm_at
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import layer_scatter
from dit_prune_viz.figures.statistic import STATISTICS
from dit_prune_viz.figures.style import message
from dit_prune_viz.formatting import percent
from dit_prune_viz.pipelines.dense_parts import dense_sentence
from dit_prune_viz.pruning.recipe_words import title_of

UNMEASURED = "Press “Measure sensitivity” below: it prunes one layer at a time, ranked as in the present plan."
EMPTY = "Layers appear here once the model is loaded."
UNCALIBRATED = "not calibrated yet"


ACTIVATIONS = ("activation_norm", "ratio")
"""Statistics that a single timestep bin has, too."""
REPORTED = ("g_out", "sparsity", "damage", "weights")
OF_WEIGHTS = ("weights", "weight_scale", "magnitude_damage")
"""Statistics that need no calibration. The last one is shown in the place of those that do."""


def heat_figure(
    session: Session | None,
    key: str,
    timestep: int = 0,
    *,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """`timestep` is the number of a bin, counted from 1 at the least noise, for what is known of one; 0 is all.

    title and limits: instead of the statistic's own, where maps of two sessions stand side by side.
    """
    if session is None or not session.layer_statistics:
        return message(EMPTY)
    if session.report is None:
        key, timestep = key if key in OF_WEIGHTS else OF_WEIGHTS[-1], 0
        title = f"{STATISTICS[key].label} · {UNCALIBRATED}"
    elif key == "sensitivity" and session.sensitivity is None:
        return message(UNMEASURED)
    statistic, layers = STATISTICS[key], session.model.layers
    return layer_map(
        [layer.name for layer in layers],
        [layer.block for layer in layers],
        [layer.kind for layer in layers],
        [layer.stack for layer in layers],
        values_of(session, key, timestep),
        title=title or statistic.label + _when(session, key, timestep) + _at(session, key) + _ranked_by(session, key),
        unit=statistic.unit,
        log=statistic.log,
        limits=limits or _limits(session, key, timestep),
    )


def dense_words(session: Session | None) -> str:
    """What of the model is prunable, and why the rest is not, in a sentence."""
    if session is None or session.model is None:
        return ""
    return markdown(dense_sentence(session.model.dense_parts, session.model.parameters))


def dots_figure(session: Session | None, y: str, timestep: int = 0) -> Figure:
    if session is None or not session.layer_statistics:
        return message(EMPTY)
    layers, plan = session.model.layers, session.plan
    if plan is None:
        y, timestep = OF_WEIGHTS[-1], 0
    threshold = plan.threshold if plan and y == "g_out" else None
    return layer_scatter(
        [layer.name for layer in layers],
        [layer.kind for layer in layers],
        values_of(session, "weight_scale"),
        values_of(session, y, timestep),
        x_label=STATISTICS["weight_scale"].label,
        y_label=STATISTICS[y].label + _when(session, y, timestep),
        threshold=threshold,
        own=None if threshold is None else plan.own_threshold,
        by_row=[plan is not None and plan.layer(layer.name).granularity == "row" for layer in layers],
        y_limits=_limits(session, y, timestep),
    )


def values_of(session: Session, key: str, timestep: int = 0) -> list[float]:
    if key == "sensitivity":
        # Layers that became prunable since it was measured have none.
        return [session.sensitivity.errors.get(layer.name, math.nan) for layer in session.model.layers]
    if timestep and key in ACTIVATIONS:
        statistics = {
            name: replace(known, activation_norm=activation_norm_at(session.calibration, name, timestep - 1))
            for name, known in session.layer_statistics.items()
        }
        return [getattr(statistics[layer.name], key) for layer in session.model.layers]
    if key == "weights":
        return [layer.weights for layer in session.model.layers]
    reports = {report.name: report for report in session.report.layers} if key in REPORTED else {}
    source = reports or session.layer_statistics
    return [getattr(source[layer.name], key) for layer in session.model.layers]


def _at(session: Session, key: str) -> str:
    """Damage is told together with the sparsity that it is of."""
    return f" at {percent(session.report.achieved)} sparsity" if key == "damage" else ""


def _ranked_by(session: Session, key: str) -> str:
    """Sensitivity is told together with the ranking that it was measured with, where that is not the present one."""
    if key != "sensitivity" or session.sensitivity.recipe.ranking == session.recipe.ranking:
        return ""
    return f", measured with {title_of(session.sensitivity.recipe)}"


def _limits(session: Session, key: str, timestep: int) -> tuple[float, float] | None:
    """The least and the greatest value in any bin, so that colours and heights compare while the bins go by."""
    if not timestep or key not in ACTIVATIONS:
        return None
    bins = range(1, len(session.calibration.edges))
    values = [value for bin in bins for value in values_of(session, key, bin) if value > 0]
    return (min(values), max(values)) if values else None


def _when(session: Session, key: str, timestep: int) -> str:
    if not timestep or key not in ACTIVATIONS:
        return ""
    low, high = session.calibration.edges[timestep - 1 : timestep + 1]
    return f" at timesteps {low:.2g}–{high:.2g}"
