"""One layer's units (rows, columns or single weights) as dots coloured by cluster, over the density of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

DENSITY_BINS = 80
SVG_LIMIT = 200
"""Dots that are drawn as SVG at most: WebGL takes a tenth of the time from some hundred dots on."""
LOOKS = ((500, 8, 0.95), (3000, 6, 0.85), (30_000, 4, 0.7), (50_000, 3, 0.55), (math.inf, 2, 0.45))
"""Dots up to a number, how large they are in pixels, and how opaque, so that crowds show through each other. Software
WebGL draws the smallest in half the time."""
CONTOURS_FROM = 20_000
"""Units from which on lines of equal density lie over the dots."""
CONTOURS = 6
INNER, OUTER = (0.0, 0.9), (0.915, 1.0)
"""Shares of the plot that the dots take, and the histograms beside them."""
AXES = {
    "row": ("weight norm of the row, log₁₀ ‖W_i‖₂", "norm of its output, log₁₀ ‖W_i·X‖₂"),
    "column": ("weight norm of the column, log₁₀ ‖W_j‖₂", "norm of its input, log₁₀ ‖X_j‖₂"),
    "weight": ("size of the weight, log₁₀ |W_ij|", "norm of its input, log₁₀ ‖X_j‖₂"),
}
"""Unit → what the axes of the weight–activation plane are, see `clustering.plane`."""

Density = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Counts of all points in bins of x and y, and the middles of the bins on both axes."""
_CHUNK = 1 << 20
DENSITY = [[0, "rgba(128,128,128,0)"], [0.15, "rgba(128,128,128,.25)"], [1, "rgba(128,128,128,.8)"]]


@dataclass(frozen=True)
class Cut:
    """Where a metric |W|^m · ‖X‖^n cuts, log10 of the lowest saliency kept: one value, or the lowest and highest of the
    cuts of several groups."""

    m: float
    n: float
    low: float
    high: float


def unit_scatter(
    points: np.ndarray,
    labels: np.ndarray,
    shown: np.ndarray,
    *,
    unit: str,
    x_label: str,
    y_label: str,
    title: str,
    subject: str = "",
    names: Sequence[str] | None = None,
    looks: Sequence[int] | None = None,
    cut: Cut | None = None,
    y_range: tuple[float, float] | None = None,
    frames: Sequence[str] = (),
    svg: bool = False,
    scaled: bool = True,
) -> go.Figure:
    """Draw the units listed in `shown` (indices into `points`, shape (n, 2)), one trace per cluster in `labels` (n,).

    Every dot carries its unit's index. When `shown` is a sample, the title says how many of how many are drawn, and the
    density of all `points` lies beneath them; points that are NaN (never projected) stay out of it. A lasso reports
    `subject`, the name of what was drawn, along with its units. names and looks say how clusters are called and drawn;
    `cut` is a straight line or band in the log axes; `y_range` leaves room for what `frames`, the timestep bins
    that the page can move through, will need. `svg` draws however many dots without WebGL: sharp in print, and
    a browser has few WebGL contexts to give. Without `scaled` the axes have no numbers: distances alone mean something.
    Beyond CONTOURS_FROM units there are lines of equal density; beside the axes stand histograms of all units.
    """
    dense = len(shown) < len(points) and bool(np.isfinite(points).all())
    count = f"{len(shown):,} of {len(points):,} {unit}s"
    alt = f"{title}: {count}, {y_label} over {x_label}."
    figure = style.blank(
        f"{title}<br><sup>{count} drawn{', density of all beneath' if dense else ''}</sup>",
        alt=alt,
        x=x_label,
        y=y_label,
        revision=f"{title} {unit} {x_label}",
    )
    spans = [_span(points[shown if not dense else slice(None), axis]) for axis in (0, 1)]
    spans[1] = spans[1] if y_range is None else _padded(*y_range)
    placed = points if dense or len(shown) == len(points) else points[np.isfinite(points).all(axis=1)]
    density, lines = _histogram(placed) if len(placed) else None, len(placed) > CONTOURS_FROM
    if dense or lines:
        _add_density(figure, density, beneath=dense, lines=lines)
    if cut is not None:
        _add_cut(figure, cut, *spans)
    draw = go.Scatter if svg or len(shown) <= SVG_LIMIT else go.Scattergl
    shown_labels = labels[shown]
    size, opacity = next((size, opacity) for most, size, opacity in LOOKS if len(shown) <= most)
    for cluster in np.unique(shown_labels):
        members = shown[shown_labels == cluster]
        look = int(cluster) if looks is None else looks[cluster]
        figure.add_trace(
            draw(
                x=points[members, 0].astype(np.float32),
                y=points[members, 1].astype(np.float32),
                customdata=members.astype(np.int32),
                mode="markers",
                name=f"cluster {cluster}" if names is None else names[cluster],
                hovertemplate=f"{unit} %{{customdata}}<extra></extra>",
                marker=_marker(look, size, opacity),
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"color": style.GREY, "opacity": 0.28}},
                meta={"units": True},
            )
        )
    pointed = {"showspikes": True, "spikemode": "across", "spikethickness": 1, "spikedash": "dot"}
    pointed |= {"spikecolor": style.GREY, "showticklabels": scaled}
    figure.update_xaxes(range=spans[0], **pointed)
    figure.update_yaxes(range=spans[1], **pointed)
    if density is not None:
        _add_margins(figure, density)
    figure.update_layout(dragmode="lasso", margin={"t": 60}, hovermode="closest")
    figure.layout.meta |= {"subject": subject, "frames": list(frames)}
    style.legend_below(figure)
    return figure


def _span(values: np.ndarray) -> list[float]:
    values = values[np.isfinite(values)]
    return _padded(float(values.min()), float(values.max())) if values.size else [0.0, 1.0]


def _padded(low: float, high: float) -> list[float]:
    margin = 0.05 * (high - low) or 0.5
    return [low - margin, high + margin]


def _add_cut(figure: go.Figure, cut: Cut, x: list[float], y: list[float]) -> None:
    """m·x + n·y = log cut, as a line where there is one cut and as a band where the cuts of groups differ."""

    def line(value: float) -> tuple[list[float], list[float]]:
        if cut.n == 0:
            return [value / cut.m] * 2, list(y)
        if cut.m == 0:
            return list(x), [value / cut.n] * 2
        return list(x), [(value - cut.m * at) / cut.n for at in x]

    low_x, low_y = line(cut.low)
    if cut.high - cut.low > 1e-6:
        high_x, high_y = line(cut.high)
        figure.add_scatter(
            x=[*low_x, *high_x[::-1]],
            y=[*low_y, *high_y[::-1]],
            name="cuts, lowest to highest",
            mode="lines",
            fill="toself",
            fillcolor="rgba(213,94,0,.12)",
            line={"color": style.PRUNED, "width": 1, "dash": "dot"},
            hoverinfo="skip",
        )
    else:
        figure.add_scatter(
            x=low_x,
            y=low_y,
            name=f"cut: {cut.m:g}·x + {cut.n:g}·y = {cut.low:.3g}",
            mode="lines",
            line={"color": style.PRUNED, "width": 2.5, "dash": "dash"},
            hoverinfo="skip",
        )


def _add_density(figure: go.Figure, density: Density, *, beneath: bool, lines: bool) -> None:
    """Of all points: shades beneath the dots, and lines of equal density over them."""
    counts, x, y = density
    about = {"z": np.log10(1 + counts.T).astype(np.float32), "x": x, "y": y, "showscale": False, "hoverinfo": "skip"}
    if beneath:
        figure.add_heatmap(**about, colorscale=DENSITY)
    if lines:
        look = {"color": style.GREY, "width": 1, "smoothing": 1}
        figure.add_contour(**about, ncontours=CONTOURS, contours={"coloring": "none"}, line=look, showlegend=False)


def _add_margins(figure: go.Figure, density: Density) -> None:
    """Histograms of all points along both axes, which move with these; two bins of the density are one of theirs."""
    bare = {"visible": False, "fixedrange": True, "rangemode": "tozero"}
    outer = {"domain": OUTER, **bare}
    figure.update_layout(xaxis={"domain": INNER}, yaxis={"domain": INNER}, xaxis2=outer, yaxis2=outer)
    look = {"mode": "lines", "line": {"width": 1, "color": style.GREY}, "showlegend": False, "hoverinfo": "skip"}
    counts, *centres = density
    along = [axis.reshape(-1, 2).mean(axis=1) for axis in centres]
    tall = [counts.sum(axis=1 - axis).reshape(-1, 2).sum(axis=1).astype(np.float32) for axis in (0, 1)]
    figure.add_scatter(x=along[0], y=tall[0], yaxis="y2", fill="tozeroy", **look)
    figure.add_scatter(x=tall[1], y=along[1], xaxis="x2", fill="tozerox", **look)


def _histogram(points: np.ndarray) -> Density:
    """As `numpy.histogram2d`, many times as fast on millions of float32 points."""
    low, high = points.min(axis=0), points.max(axis=0)
    width = np.where(high > low, high - low, 1).astype(np.float32)
    counts = np.zeros(DENSITY_BINS**2, dtype=np.int64)
    for start in range(0, len(points), _CHUNK):
        cell = (points[start : start + _CHUNK] - low) * (DENSITY_BINS / width)
        cell = np.minimum(cell, DENSITY_BINS - 1).astype(np.int32)
        counts += np.bincount(cell[:, 0] * DENSITY_BINS + cell[:, 1], minlength=len(counts))
    edges = [np.linspace(low[axis], low[axis] + width[axis], DENSITY_BINS + 1) for axis in (0, 1)]
    return counts.reshape(DENSITY_BINS, DENSITY_BINS), *(_centres(one).astype(np.float32) for one in edges)


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _marker(cluster: int, size: int, opacity: float) -> dict:
    """Without an outline: only what is selected gets one, by the page."""
    return {
        "size": size,
        "symbol": style.symbol(cluster),
        "color": style.colour(cluster),
        "opacity": opacity,
        "line": {"width": 0},
    }
