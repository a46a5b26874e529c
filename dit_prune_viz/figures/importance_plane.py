"""The importance plane: mean log saliency of a layer over output (y) and input (x) channels, binned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

MAX_BINS = 120
_PRECISE = 1 << 20
"""Layers of no more weights are summed in float64."""

VEIL = [[0, "rgba(128,128,128,0)"], [0.5, "rgba(90,30,10,.35)"], [1, "rgba(25,8,4,.92)"]]


@dataclass(frozen=True, eq=False)
class Plane:
    """Saliencies in bins. order is what the channels are sorted by, out and in the channels in the order drawn.

    scores: (≤120, ≤120), mean saliency per bin; pruned: the share of its weights that are pruned, or None. bands:
    (first row, the one after the last, name) of output channels that belong together.
    """

    scores: np.ndarray
    out_edges: np.ndarray
    in_edges: np.ndarray
    out: np.ndarray
    inn: np.ndarray
    order: str = "original order"
    pruned: np.ndarray | None = None
    bands: tuple[tuple[int, int, str], ...] = ()


def make_plane(
    scores: np.ndarray,
    keep: np.ndarray | None = None,
    *,
    out: np.ndarray | None = None,
    inn: np.ndarray | None = None,
    order: str = "original order",
    bands: Sequence[tuple[int, int, str]] = (),
) -> Plane:
    """All weights of `scores` (d_out, d_in) in bins, output and input channels in the orders `out` and `inn`; `bands`
    as in `Plane`."""
    d_out, d_in = scores.shape
    out = np.arange(d_out) if out is None else out
    inn = np.arange(d_in) if inn is None else inn
    binned, out_edges, in_edges = bin_plane(scores, out, inn)
    pruned = None if keep is None else 1 - bin_plane(keep, out, inn)[0]
    return Plane(binned, out_edges, in_edges, out, inn, order, pruned, tuple(bands))


def importance_plane(
    plane: Plane | np.ndarray, *, unit: str = "row", selected: np.ndarray | None = None, overlay: bool = False
) -> go.Figure:
    """At most 120 bins a side; each shows log10 of its mean saliency.

    Horizontal streaks are output channels that matter as a whole: the pattern for which CAG ranks inside rows. With
    `overlay` what is pruned is veiled. In the original order, bands are named in the place of row numbers. `selected`
    says for every `unit` of the layer whether it is selected: rows and columns are framed, bins with selected weights
    get a dot.
    """
    plane = plane if isinstance(plane, Plane) else make_plane(plane)
    binned = plane.scores
    d_out, d_in = len(plane.out), len(plane.inn)
    z = np.log10(np.where(binned > 0, binned, np.nan)).astype(np.float32)
    per_bin = f"{int(np.ceil(d_out / binned.shape[0]))} × {int(np.ceil(d_in / binned.shape[1]))}"
    by = "" if plane.order == "original order" else f", {plane.order}"
    figure = style.blank(
        f"Importance plane<br><sup>log₁₀ mean saliency of all weights, bins of at most {per_bin}</sup>",
        alt=f"Heat map of saliency over {d_out} output and {d_in} input channels{by}{_spoken(plane)}.",
        x=f"input channel{by}",
        y=f"output{by}" if by else "output channel",  # the plane is not higher
        revision=f"plane {plane.order}",
    )
    figure.add_heatmap(
        z=z,
        x=plane.in_edges[:-1],
        y=plane.out_edges[:-1],
        colorscale="Cividis",
        text=binned.astype(np.float32),
        hovertemplate=f"{_place(plane)}<br>mean saliency %{{text:.2g}}<extra></extra>",
        colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 5},
    )
    if overlay and plane.pruned is not None:
        figure.add_heatmap(
            z=plane.pruned.astype(np.float32),
            x=plane.in_edges[:-1],
            y=plane.out_edges[:-1],
            zmin=0,
            zmax=1,
            colorscale=VEIL,
            showscale=False,
            hovertemplate=f"{_place(plane)}<br>%{{z:.0%}} pruned<extra></extra>",
        )
    if plane.order == "original order":
        halves = {"y": float(plane.out_edges[1]) / 2, "x": float(plane.in_edges[1]) / 2}
        figure.layout.meta |= {"crosshair": {"unit": unit, "columns": d_in, "halves": halves}}
    if selected is not None:
        _show_selected(figure, plane, unit, selected)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    if plane.bands and plane.order == "original order":
        _name_bands(figure, plane)
    direction = {"row": "v", "column": "h"}.get(unit, "any")
    figure.update_layout(margin={"t": 50, "r": 8, "b": 40}, dragmode="select", selectdirection=direction)
    return figure


def _spoken(plane: Plane) -> str:
    """The bands from top to bottom, for those who do not see them."""
    if not plane.bands or plane.order != "original order":
        return ""
    return "; from top to bottom: " + ", ".join(name for *_, name in plane.bands)


def _place(plane: Plane) -> str:
    """Which channels a bin holds, as a hover template."""
    shape = zip(("row", "column"), ("y", "x"), plane.scores.shape, (len(plane.out), len(plane.inn)), strict=True)
    each = [(name, axis, -(-channels // bins)) for name, axis, bins, channels in shape]
    return ", ".join(
        f"{name} %{{{axis}}}" if size == 1 else f"{size} {name}s from %{{{axis}}}" for name, axis, size in each
    )


def _name_bands(figure: go.Figure, plane: Plane) -> None:
    """The name of each band at its middle, and a line between neighbours."""
    half = float(plane.out_edges[1]) / 2  # bins are drawn around their first channel
    middles = [(first + end) / 2 - half for first, end, _ in plane.bands]
    names = [name for *_, name in plane.bands]
    figure.update_yaxes(tickvals=middles, ticktext=names, tickfont={"size": 10 if len(names) <= 6 else 9}, title=None)
    for first, *_ in plane.bands[1:]:
        at = first - half
        figure.add_shape(
            type="line", xref="x domain", x0=0, x1=1, y0=at, y1=at, line={"width": 1, "color": "rgba(255,255,255,.75)"}
        )


def _show_selected(figure: go.Figure, plane: Plane, unit: str, selected: np.ndarray) -> None:
    if unit == "weight":
        share = bin_plane(selected.reshape(len(plane.out), len(plane.inn)), plane.out, plane.inn)[0]
        rows, columns = np.nonzero(share > 0)
        figure.add_scatter(
            x=plane.in_edges[columns],
            y=plane.out_edges[rows],
            mode="markers",
            marker={"size": 3, "color": style.ORANGE, "symbol": "square"},
            hoverinfo="skip",
            showlegend=False,
        )
        return
    along = "y" if unit == "row" else "x"
    order, edges = (plane.out, plane.out_edges) if unit == "row" else (plane.inn, plane.in_edges)
    hit = np.add.reduceat(selected[order].astype(np.int64), edges[:-1]) > 0
    change = np.flatnonzero(np.diff(np.concatenate([[0], hit.astype(np.int8), [0]])))
    # Bins are drawn around their first channel, so that a frame begins half a bin before.
    half = (edges[1] - edges[0]) / 2
    for start, end in zip(change[::2], change[1::2], strict=True):
        span = {f"{along}0": edges[start] - half, f"{along}1": edges[end] - half}
        across = {"xref": "x domain", "x0": 0, "x1": 1} if along == "y" else {"yref": "y domain", "y0": 0, "y1": 1}
        figure.add_shape(
            type="rect", line={"width": 1.2, "color": style.ORANGE}, fillcolor="rgba(230,159,0,.22)", **span, **across
        )


def bin_plane(
    scores: np.ndarray, out: np.ndarray | None = None, inn: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over at most MAX_BINS × MAX_BINS bins of (nearly) equal size, and the bins' edges on both axes.

    `out` and `inn` are orders of the channels, the original ones unless given.
    """
    d_out, d_in = scores.shape
    out_edges, in_edges = _edges(d_out), _edges(d_in)
    dtype = np.float64 if scores.size <= _PRECISE else np.float32
    # A product with a table that says which bin a channel is in adds up all weights without moving any of them.
    belongs = np.zeros((d_in, len(in_edges) - 1), dtype=dtype)
    belongs[np.arange(d_in) if inn is None else inn, np.repeat(np.arange(len(in_edges) - 1), np.diff(in_edges))] = 1
    sums = scores.astype(dtype, copy=False) @ belongs
    sums = sums.astype(np.float64) if out is None else sums[out].astype(np.float64)
    binned = np.add.reduceat(sums, out_edges[:-1], 0)
    return binned / np.outer(np.diff(out_edges), np.diff(in_edges)), out_edges, in_edges


def _edges(channels: int) -> np.ndarray:
    """Of at most MAX_BINS bins, equally large where a number not much lower divides the channels: those draw faster."""
    most = min(MAX_BINS, channels)
    equal = (bins for bins in range(most, most // 2, -1) if channels % bins == 0)
    return np.linspace(0, channels, next(equal, most) + 1).astype(int)
