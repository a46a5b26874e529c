"""All layers as dots: weight scale against activation norm or heterogeneity, with the CAG threshold as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

FILLED = "filled: ranked row by row; hollow: as a whole"


def layer_scatter(
    names: Sequence[str],
    kinds: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    threshold: float | None = None,
    own: float | None = None,
    by_row: Sequence[bool] | None = None,
    y_limits: tuple[float, float] | None = None,
) -> go.Figure:
    """One dot per layer on log10 axes; `threshold` draws the CAG line at that y, `own` the model's own beside it.

    Layers that are ranked row by row (`by_row`) are filled, the others hollow; all are filled unless it is given.
    `y_limits` are values that the axis is to reach, where several scatters are to be compared.
    Layers with a value of zero have no logarithm; they are drawn at the smallest positive value of their axis.
    """
    log_x, log_y = _log10(x), _log10(y)
    filled = [True] * len(names) if by_row is None else by_row
    alt = f"Scatter of {len(names)} layers, {y_label} over {x_label}."
    title = "Every layer" if by_row is None else f"Every layer<br><sup>{FILLED}</sup>"
    figure = style.blank(title, alt=alt, x=x_label, y=y_label, revision=f"layers {x_label} {y_label}")
    for index, group in enumerate(dict.fromkeys(map(kind_group, kinds))):
        members = [i for i, kind in enumerate(kinds) if kind_group(kind) == group]
        symbol = style.symbol(index)
        figure.add_scatter(
            x=log_x[members],
            y=log_y[members],
            mode="markers",
            name=group,
            customdata=[[names[i], f"{x[i]:.3g}", f"{y[i]:.3g}"] for i in members],
            hovertemplate="<b>%{customdata[0]}</b><br>"
            + f"{x_label} %{{customdata[1]}}<br>{y_label} %{{customdata[2]}}<extra></extra>",
            marker={
                "size": 10,
                "symbol": [symbol if filled[i] else f"{symbol}-open" for i in members],
                "color": style.colour(index),
                "line": style.OUTLINE | {"width": [style.OUTLINE["width"] if filled[i] else 2 for i in members]},
            },
        )
    figure.update_xaxes(**style.power_of_ten(log_x) or style.decimal_ticks(log_x))
    lines = [math.log10(value) for value in (threshold, own) if _drawable(value)]
    shown = [*(log_y if y_limits is None else np.log10(y_limits)), *lines]
    # A range of its own, so that the axis stays where it is while the line is dragged.
    margin = 0.08 * (max(shown) - min(shown)) or 0.5
    figure.update_yaxes(
        **style.power_of_ten(shown) or style.decimal_ticks(shown), range=[min(shown) - margin, max(shown) + margin]
    )
    if _drawable(threshold):
        figure.add_hline(y=lines[0], line={"dash": "dash", "width": 2, "color": style.VERMILLION})
    if _drawable(own) and own != threshold:
        figure.add_hline(
            y=lines[-1],
            line={"dash": "dot", "width": 1, "color": style.GREY},
            annotation={"text": f"the model's own, {own:.2g}", "font": {"size": 11}},
            annotation_position="top left",
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


def _drawable(threshold: float | None) -> bool:
    return threshold is not None and 0 < threshold < math.inf
