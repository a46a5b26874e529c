"""What the runs of a page say: a score of each over sparsity or size, in front of curves that were measured before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from dit_prune_viz.figures import style
from dit_prune_viz.figures.tradeoff import Point

_LONGEST = 18
_NAMED = 5
"""Curves that have their name at their end; more would lie over each other."""


@dataclass(frozen=True)
class Dot:
    """One run.

    Attributes:
        number: of the run, which a click brings back.
        name: of its plan.
        x: per cent of the weights that are pruned, or a size.
        mean: of the score over the prompts.
        spread: its standard deviation over the prompts, 0 for a single one.
        told: what hovering tells besides, one line.
        shown: whether its pictures are on the page.
        is_a: whether it is A.
        alike: whether it drew the same prompts as the run that is shown, from the same noise.
    """

    number: int
    name: str
    x: float
    mean: float
    spread: float
    told: str = ""
    shown: bool = False
    is_a: bool = False
    alike: bool = True


def evidence(
    curves: Mapping[str, Sequence[Point]],
    dots: Sequence[Dot],
    *,
    score: str,
    note: str = "",
    unit: str = "",
    named: Sequence[str] = (),
) -> go.Figure:
    """Runs as dots with whiskers of one spread, and measured curves behind them.

    Args:
        curves: method → its points.
        dots: the runs. The one that is shown is vermillion, A a purple diamond, those of other prompts are hollow.
        score: what is drawn.
        note: a second line of the title.
        unit: of x where that is a size, such as "MB"; empty where it is the sparsity in per cent.
        named: the curves that are to be coloured and named at their ends.
    """
    figure = style.blank(
        f"{score} to dense{_small(note)}" if score == "SSIM" else f"{score}{_small(note)}",
        alt=f"{score} over {'size' if unit else 'sparsity'}: {len(dots)} runs before {len(curves)} measured curves.",
        x=f"stored, {unit}" if unit else "pruned weights, %",
        revision=f"evidence {score} {unit}",
    )
    coloured = [name for name in named if name in curves][:_NAMED]
    lines = {
        name: sorted((point for point in own if not point.pattern), key=lambda point: point.x)
        for name, own in curves.items()
    }
    limits = _limits([point.mean for points in lines.values() for point in points], dots)
    for name, points in lines.items():
        if points:
            _add_curve(figure, name, points, coloured, limits)
    for is_a, shown in ((False, False), (True, False), (False, True), (True, True)):
        members = [dot for dot in dots if (dot.is_a, dot.shown) == (is_a, shown)]
        if members:
            _add_dots(figure, members, is_a=is_a, shown=shown)
    figure.update_xaxes(nticks=6, showgrid=False)
    figure.update_yaxes(nticks=6, range=limits)
    figure.update_layout(showlegend=False, margin={"l": 40, "r": 12, "t": 52, "b": 40}, hovermode="closest")
    return figure


def _limits(measured: Sequence[float], dots: Sequence[Dot]) -> list[float] | None:
    """What the runs need of the axis, and some room; all of it without runs. A double-click shows the whole curves."""
    if not dots:
        return None
    low = min(dot.mean - dot.spread for dot in dots)
    high = max([*measured, *(dot.mean + dot.spread for dot in dots)])
    room = max(high - low, 1e-3)
    return [low - 0.3 * room, high + 0.12 * room]


def _small(note: str) -> str:
    return f"<br><sup>{note}</sup>" if note else ""


def _add_curve(
    figure: go.Figure,
    name: str,
    points: Sequence[Point],
    coloured: Sequence[str],
    limits: Sequence[float] | None,
) -> None:
    colour = style.colour(coloured.index(name)) if name in coloured else style.GREY
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.mean for point in points],
        name=escape(name),
        mode="lines+markers",
        opacity=0.75 if name in coloured else 0.3,
        line={"color": colour, "width": 1.5},
        marker={"size": 3, "color": colour},
        text=[point.label for point in points],
        hovertemplate=f"{escape(name)} %{{text}}: %{{y:.3g}}<extra>measured</extra>",
    )
    if name in coloured:
        seen = [point for point in points if limits is None or point.mean > limits[0]]
        last = seen[-1] if seen else points[0]
        figure.add_annotation(
            x=last.x, y=last.mean, text=escape(name), showarrow=False, xanchor="right", yanchor="bottom",
            font={"size": 10, "color": colour},
        )  # fmt: skip


def _add_dots(figure: go.Figure, dots: Sequence[Dot], *, is_a: bool, shown: bool) -> None:
    symbol = "diamond" if is_a else "circle"
    colour = style.VERMILLION if shown else style.PURPLE if is_a else style.BLUE
    figure.add_scatter(
        x=[dot.x for dot in dots],
        y=[dot.mean for dot in dots],
        error_y={
            "type": "data",
            "array": [dot.spread for dot in dots],
            "visible": any(dot.spread for dot in dots),
            "thickness": 1,
            "width": 3,
        },
        name="run",
        mode="markers+text",
        customdata=[[dot.number] for dot in dots],
        text=[("A · " if dot.is_a else "") + escape(_short(dot.name)) for dot in dots],
        hovertext=[f"<b>{escape(dot.name)}</b><br>{escape(dot.told)}" for dot in dots],
        hovertemplate="%{hovertext}<extra></extra>",
        textposition=["bottom left" if dot.is_a else "top right" for dot in dots],
        textfont={"size": 10},
        cliponaxis=False,
        marker={
            "symbol": [symbol if dot.alike else f"{symbol}-open" for dot in dots],
            "size": 12 if shown or is_a else 9,
            "color": colour,
            "line": style.OUTLINE,
        },
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
