"""All layers as dots: weight scale against activation norm or heterogeneity, with the CAG threshold as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style


def layer_scatter(
    names: Sequence[str],
    kinds: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    threshold: float | None = None,
) -> go.Figure:
    """One dot per layer on log10 axes; `threshold` draws the CAG line at that y.

    Layers with a value of zero have no logarithm; they are drawn at the smallest positive value of their axis.
    """
    log_x, log_y = _log10(x), _log10(y)
    alt = f"Scatter of {len(names)} layers, {y_label} over {x_label}."
    figure = style.blank("Every layer", alt=alt, x=x_label, y=y_label, revision=f"layers {x_label} {y_label}")
    for index, group in enumerate(dict.fromkeys(map(kind_group, kinds))):
        members = [i for i, kind in enumerate(kinds) if kind_group(kind) == group]
        figure.add_scatter(
            x=log_x[members],
            y=log_y[members],
            mode="markers",
            name=group,
            customdata=[[names[i], f"{x[i]:.3g}", f"{y[i]:.3g}"] for i in members],
            hovertemplate="<b>%{customdata[0]}</b><br>"
            + f"{x_label} %{{customdata[1]}}<br>{y_label} %{{customdata[2]}}<extra></extra>",
            marker={"size": 10, "symbol": style.symbol(index), "color": style.colour(index), "line": style.OUTLINE},
        )
    figure.update_xaxes(**style.power_of_ten(log_x) or _decimal_ticks(log_x))
    shown = [*log_y, math.log10(threshold)] if _drawable(threshold) else log_y
    figure.update_yaxes(**style.power_of_ten(shown) or _decimal_ticks(shown))
    if _drawable(threshold):
        figure.add_hline(
            y=math.log10(threshold),
            line={"dash": "dash", "width": 2, "color": style.VERMILLION},
            annotation={"text": f"CAG threshold {threshold:.2g}: rows above, layer below", "font": {"size": 11}},
            annotation_position="top right",
        )
    style.legend_below(figure)
    return figure


def kind_group(kind: str) -> str:
    """The family of a kind of layer, so that a legend stays short: adaLN, MLP, fused, attention or other."""
    lowered = kind.lower()
    for word, group in (("adaln", "adaLN"), ("mlp", "MLP"), ("fused", "fused out")):
        if word in lowered:
            return group
    return "other" if lowered == "other" else "attention"


def _log10(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    positive = array[array > 0]
    return np.log10(np.maximum(array, positive.min() if positive.size else 1.0))


def _decimal_ticks(exponents: Sequence[float]) -> dict:
    low, high = min(exponents), max(exponents)
    ticks = np.linspace(low, high, 5) if high > low else np.array([low])
    return {"tickvals": ticks, "ticktext": [f"{10**tick:.2g}" for tick in ticks]}


def _drawable(threshold: float | None) -> bool:
    return threshold is not None and 0 < threshold < math.inf
