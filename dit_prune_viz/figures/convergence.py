"""How much masks still change with more calibration samples."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dit_prune_viz.figures import style
from dit_prune_viz.formatting import percent


def convergence(sizes: Sequence[int], changed: Sequence[float], to_largest: Sequence[float]) -> go.Figure:
    """Shares of the weights (0–1) whose mask differs, over numbers of samples.

    sizes: (s,) rising. changed: (s − 1,) between each size and the next, drawn at the larger of the two. to_largest:
    (s,) between each size and the last.
    """
    largest = f"from {sizes[-1]:,}"
    alt = ", ".join(f"{size} samples {percent(share)}" for size, share in zip(sizes, to_largest, strict=True))
    figure = style.blank(
        "Weights that differ, %",
        alt=f"Share of the weights whose mask differs from that of {sizes[-1]} samples: {alt}.",
        x="calibration inputs",
        revision="convergence",
    )
    for name, x, shares, colour, dash, mark in (
        ("from the size before", sizes[1:], changed, style.BLUE, "solid", "circle"),
        (largest, sizes[:-1], to_largest[:-1], style.VERMILLION, "dash", "diamond"),
    ):
        figure.add_scatter(
            x=list(x),
            y=[100 * share for share in shares],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.5},
            marker={"symbol": mark, "size": 8, "color": colour},
            hovertemplate="%{x:,} inputs: %{y:.2f} %, " + name + "<extra></extra>",
        )
    figure.update_xaxes(type="log", tickvals=list(sizes), ticktext=[f"{size:,}" for size in sizes], showgrid=False)
    figure.update_yaxes(rangemode="tozero", nticks=5)
    style.legend_below(figure)
    figure.update_layout(margin={"l": 36, "r": 8, "t": 36})
    return figure
