"""CLIP score of the previews over denoising steps, for all sides of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from dit_prune_viz.figures import style
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT

_LONGEST = 34
_LOOKS = (
    (style.BLUE, "solid", "circle"),
    (style.VERMILLION, "dash", "diamond"),
    (style.PURPLE, "dot", "square"),
)
"""Of the first side, the last, and one between."""


def clip_curve(
    sides: Mapping[str, Sequence[tuple[int, float]]], *, steps: int, model: str, prompts: int = 1
) -> go.Figure:
    """`sides` are, by name, (step, score) pairs with score = 100·max(mean cos, 0) under the CLIP named `model`.

    The means are over so many `prompts`.
    """
    mean = f" over {prompts} prompts" if prompts > 1 else ""
    figure = style.blank(
        f"CLIP score while denoising<br><sup>{escape(model)}, {CLIP_UNIT}{mean}</sup>",
        alt=f"CLIP score over {steps} denoising steps{mean}: {', and '.join(sides)}.",
        x="denoising step",
        y="CLIP score",
        revision=f"clip {steps}",
    )
    for place, (name, points) in enumerate(sides.items()):
        colour, dash, symbol = _LOOKS[0 if place == 0 else 1 if place == len(sides) - 1 else 2]
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[score for _, score in points],
            name=escape(_short(name)),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.5},
            marker={"symbol": symbol, "size": 8, "color": colour},
            hovertemplate=escape(name) + " step %{x}: %{y:.1f}<extra></extra>",
        )
    figure.update_xaxes(range=[0, steps + 0.5], nticks=8, showgrid=False)
    style.legend_below(figure)
    figure.update_layout(margin={"t": 60})
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
