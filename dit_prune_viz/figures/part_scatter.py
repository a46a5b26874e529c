"""Predicted damage against measured error, a dot for every part of a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

_NAMED = 12
"""Up to so many parts all have their names beside their dots; of more, those that mislead."""


def part_scatter(
    names: Sequence[str],
    predicted: Sequence[float],
    measured: Sequence[float],
    *,
    misleading: Collection[str] = (),
    ratio: float | None = None,
) -> go.Figure:
    """Log axes; what is 0 has no logarithm and is left out.

    Args:
        names: of the parts, safe in HTML.
        predicted: damage of each, 0–1.
        measured: relative error of the transformer's output without each.
        misleading: names of the parts whose dots are to stand out.
        ratio: of error to damage, drawn as a line: dots above it cost more than predicted.
    """
    shown = [i for i in range(len(names)) if predicted[i] > 0 and measured[i] > 0]
    figure = style.blank(
        "Predicted and measured, part by part<br><sup>above the line: costs more than predicted</sup>",
        alt=f"Measured error of the transformer's output over predicted damage, {len(shown)} parts.",
        x="predicted damage (share of output energy)",
        y="measured output error",
        revision="parts",
    )
    sorts = (("as predicted", "circle", style.BLUE, False), ("misleading", "diamond", style.VERMILLION, True))
    for name, symbol, colour, outlying in sorts:
        members = [i for i in shown if (names[i] in misleading) is outlying]
        figure.add_scatter(
            x=[predicted[i] for i in members],
            y=[measured[i] for i in members],
            text=[names[i] for i in members],
            name=name,
            mode="markers+text" if outlying or len(shown) <= _NAMED else "markers",
            textposition="middle right",
            textfont={"size": 11},
            cliponaxis=False,
            marker={"symbol": symbol, "size": 10, "color": colour, "line": style.OUTLINE},
            hovertemplate="<b>%{text}</b><br>predicted %{x:.3g}, measured %{y:.3g}<extra></extra>",
        )
    if ratio and len(shown) > 1:
        ends = np.array([min(predicted[i] for i in shown) / 1.5, max(predicted[i] for i in shown) * 1.5])
        figure.add_scatter(
            x=ends,
            y=ratio * ends,
            mode="lines",
            name="median ratio",
            line={"dash": "dash", "width": 1.5, "color": style.GREY},
            hoverinfo="skip",
        )
    figure.update_xaxes(type="log", **_ticks([predicted[i] for i in shown]))
    figure.update_yaxes(type="log", **_ticks([measured[i] for i in shown]))
    style.legend_below(figure)
    figure.update_layout(margin={"t": 60, "b": 96})
    return figure


def _ticks(values: Sequence[float]) -> dict:
    """Powers of ten over a wide range, 1, 2 and 5 of each over a narrow one."""
    if not values or max(values) / min(values) > 30:
        return {"dtick": 1}
    exponents = range(int(np.floor(np.log10(min(values)))) - 1, int(np.ceil(np.log10(max(values)))) + 1)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [f"{tick:.3g}" for tick in ticks]}
