"""The importance plane: mean log saliency of a layer over output (y) and input (x) channels, binned."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

MAX_BINS = 120


def importance_plane(scores: np.ndarray) -> go.Figure:
    """`scores` is (d_out, d_in). At most 120 bins a side; each shows log10 of its mean saliency.

    Horizontal streaks are output channels that matter as a whole: the pattern for which CAG ranks inside rows.
    """
    d_out, d_in = scores.shape
    binned, out_edges, in_edges = bin_plane(scores)
    positive = binned > 0
    z = np.log10(np.where(positive, binned, np.nan)).astype(np.float32)
    per_bin = f"{int(np.ceil(d_out / binned.shape[0]))} × {int(np.ceil(d_in / binned.shape[1]))}"
    figure = style.blank(
        f"Importance plane<br><sup>log₁₀ mean saliency, bins of at most {per_bin} weights</sup>",
        alt=f"Heat map of saliency over {d_out} output and {d_in} input channels.",
        x="input channel",
        y="output channel",
        revision="plane",
    )
    figure.add_heatmap(
        z=z,
        x=in_edges[:-1],
        y=out_edges[:-1],
        colorscale="Cividis",
        hovertemplate="out %{y}+, in %{x}+<br>10^%{z:.2f}<extra></extra>",
        colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 5},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    figure.update_layout(margin={"t": 60, "r": 8})
    return figure


def bin_plane(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over at most MAX_BINS × MAX_BINS bins of nearly equal size, and the bins' edges on both axes."""
    out_edges = np.linspace(0, scores.shape[0], min(MAX_BINS, scores.shape[0]) + 1).astype(int)
    in_edges = np.linspace(0, scores.shape[1], min(MAX_BINS, scores.shape[1]) + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(scores.astype(np.float64), out_edges[:-1], 0), in_edges[:-1], 1)
    return sums / np.outer(np.diff(out_edges), np.diff(in_edges)), out_edges, in_edges
