"""CLIP score of the previews over denoising steps, for the dense and the pruned model."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dit_prune_viz.figures import style


def clip_curve(
    dense: Sequence[tuple[int, float]], pruned: Sequence[tuple[int, float]], *, steps: int, model: str
) -> go.Figure:
    """`dense` and `pruned` are (step, score) pairs with score = 100·max(cos, 0) under the CLIP named `model`."""
    figure = style.blank(
        f"CLIP score while denoising<br><sup>{model}, 100·max(cos, 0)</sup>",
        alt=f"CLIP score over {steps} denoising steps, dense and pruned.",
        x="denoising step",
        y="CLIP score",
        revision=f"clip {steps}",
    )
    for name, points, colour, dash, symbol in (
        ("dense", dense, style.BLUE, "solid", "circle"),
        ("pruned", pruned, style.VERMILLION, "dash", "diamond"),
    ):
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[score for _, score in points],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.5},
            marker={"symbol": symbol, "size": 8, "color": colour},
            hovertemplate=name + " step %{x}: %{y:.1f}<extra></extra>",
        )
    figure.update_xaxes(range=[0, steps + 0.5], nticks=8, showgrid=False)
    style.legend_below(figure)
    figure.update_layout(margin={"t": 60})
    return figure
