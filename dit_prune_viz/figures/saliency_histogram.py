"""Where the cut falls: the layer's saliencies on a log axis, kept and pruned stacked."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

BINS = 60


def saliency_histogram(scores: np.ndarray, keep: np.ndarray, *, single_cut: bool) -> go.Figure:
    """`scores` and boolean `keep` share the weight's shape.

    With `single_cut` all weights were ranked together, and a line marks the lowest kept saliency; otherwise every
    group has its own cut and the overlap of the two colours shows how far the cuts lie apart.
    """
    scores, keep = scores.ravel(), keep.ravel()
    positive = scores > 0
    figure = style.blank(
        "Saliency and the cut",
        alt=f"Histogram of {scores.size:,} saliencies: {keep.sum():,} kept, {(~keep).sum():,} pruned.",
        x="saliency",
        y="weights",
        revision="saliency",
    )
    if not positive.any():
        return style.message("All saliencies of this layer are zero.")
    logs = np.log10(np.maximum(scores, scores[positive].min()))
    low, high = np.quantile(logs, 0.001), logs.max()
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    logs = np.maximum(logs, low)
    centres = (edges[:-1] + edges[1:]) / 2
    for name, members, fill, pattern in (("pruned", ~keep, style.PRUNED, "/"), ("kept", keep, style.KEPT, "")):
        counts, _ = np.histogram(logs[members], edges)
        figure.add_bar(
            x=centres,
            y=counts,
            name=name,
            marker={"color": fill, "pattern": {"shape": pattern, "size": 5, "solidity": 0.35, "fgopacity": 0.9}},
            hovertemplate="%{y:,} " + name + "<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0)
    figure.update_xaxes(**style.power_of_ten(edges))
    if single_cut and keep.any() and not keep.all():
        figure.add_vline(x=logs[keep].min(), line={"dash": "dash", "width": 2, "color": style.GREY})
    style.legend_below(figure)
    return figure
