"""Colours, symbols and the layout every figure starts from.

Colours are Okabe and Ito's colour-blind safe palette without black, which would vanish in dark mode. A colour never
stands alone: clusters also differ by symbol, pruned weights by hatching, and curves by dash. Backgrounds are
transparent and no text colour is set here, because the page supplies both for its light and dark themes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#8C8C8C"
COLOURS = (SKY, ORANGE, GREEN, VERMILLION, PURPLE, BLUE, YELLOW, GREY)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down", "pentagon", "hexagram")
GLYPHS = ("●", "◆", "■", "▲", "✚", "✖", "★", "▼", "⬟", "✶")
KEPT, PRUNED = BLUE, VERMILLION
MESSAGE_WIDTH = 52
"""Characters in a line of `message`; more would not fit on a phone."""
OUTLINE = {"width": 0.6, "color": "rgba(40,40,40,.75)"}


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def symbol(index: int) -> str:
    return SYMBOLS[index % len(SYMBOLS)]


def glyph(index: int) -> str:
    """The text character that looks like `symbol(index)`, for tables beside the plot."""
    return GLYPHS[index % len(GLYPHS)]


def blank(title: str, *, alt: str, x: str = "", y: str = "", revision: str = "fixed") -> go.Figure:
    """An empty figure with titled axes.

    `alt` is read out by screen readers. While `revision` stays the same the page keeps the person's zoom and
    selection through redraws; it changes when the axes mean something else.
    """
    figure = go.Figure()
    figure.update_layout(
        template=None,
        title={"text": title, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 14}},
        xaxis={"title": {"text": x, "standoff": 8}, "automargin": True, "zeroline": False},
        yaxis={"title": {"text": y, "standoff": 8}, "automargin": True, "zeroline": False},
        margin={"l": 56, "r": 16, "t": 44, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 12},
        hoverlabel={"align": "left"},
        uirevision=revision,
        meta={"alt": alt},
    )
    return figure


def message(text: str) -> go.Figure:
    """An empty state: one sentence where a picture will be."""
    figure = go.Figure()
    figure.update_layout(
        template=None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis={"visible": False},
        yaxis={"visible": False},
        meta={"alt": text},
    )
    lines = textwrap.wrap(text, MESSAGE_WIDTH)
    figure.add_annotation(
        text=" <br>".join(lines), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 12}
    )
    return figure


def legend_below(figure: go.Figure) -> None:
    """Put the legend under the plot, where it never covers a point."""
    figure.update_layout(
        legend={"orientation": "h", "x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"},
        margin={"b": 76},
    )


def power_of_ten(exponents: Sequence[float]) -> dict:
    """Axis ticks for values given as log10: 10ⁿ at whole exponents, plain decimals when the range is narrow."""
    low, high = min(exponents), max(exponents)
    if high - low < 1.5:
        return {}
    first, last = int(low // 1), int(high // 1) + 1
    step = -(-(last - first) // 6)
    ticks = list(range(first, last + 1, step))
    return {"tickvals": ticks, "ticktext": [f"10<sup>{tick}</sup>".replace("-", "−") for tick in ticks]}


def decimal_ticks(exponents: Sequence[float]) -> dict:
    """Axis ticks for values given as log10, at even steps, as plain decimals."""
    low, high = min(exponents), max(exponents)
    ticks = np.linspace(low, high, 5) if high > low else np.array([low])
    digits = next((count for count in range(2, 6) if len({f"{10**tick:.{count}g}" for tick in ticks}) == len(ticks)), 6)
    return {"tickvals": ticks, "ticktext": [f"{10**tick:.{digits}g}" for tick in ticks]}
