"""What pruning costs: a score over sparsity or size, a curve per method; and predicted against measured damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dit_prune_viz.figures import style
from dit_prune_viz.formatting import counted

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def whiskers(seeds: int) -> str:
    """What the spread of a mean over prompts and seeds is."""
    return "spread over seeds" if seeds > 1 else "standard error over prompts"


def sampled(prompts: int, seeds: int) -> str:
    """What the points are means over, and what their whiskers are."""
    return f"{counted(prompts, 'prompt')}, {counted(seeds, 'seed')}; whiskers: {whiskers(seeds)}"


@dataclass(frozen=True)
class Point:
    """One method at one sparsity: x in percent of the weights or as a size, a score's mean and its spread.

    label: the sparsity as people read it; a pattern such as 2:4 is drawn as a lone open mark.
    """

    x: float
    mean: float
    spread: float
    label: str

    @property
    def pattern(self) -> bool:
        return ":" in self.label


def tradeoff(
    curves: Mapping[str, Sequence[Point]],
    *,
    title: str,
    note: str = "",
    dense: float | None = None,
    unit: str = "",
    dense_size: float | None = None,
) -> go.Figure:
    """One curve per method with whiskers of one spread, over sparsity or over size.

    Args:
        curves: method → its points.
        title: the score.
        note: a second line of the title.
        dense: the dense model's score, drawn as a level line.
        unit: of the points' x where they are sizes, such as "MB"; empty where they are sparsities in percent.
        dense_size: the dense model's size in that unit, drawn as an upright line.
    """
    points = sum(map(len, curves.values()))
    figure = style.blank(
        f"{title}<br><sup>{note}</sup>" if note else title,
        alt=f"{title} over {'size' if unit else 'sparsity'}: {points} points of {len(curves)} methods.",
        x=f"transformer as stored, {unit}" if unit else "pruned weights, %",
        y=title,
        revision=f"tradeoff {title} {unit}",
    )
    for index, (name, own) in enumerate(curves.items()):
        line = {"color": style.colour(index), "dash": DASHES[index // len(style.COLOURS) % len(DASHES)], "width": 2.5}
        ordered = sorted((point for point in own if not point.pattern), key=lambda point: point.x)
        lone = [point for point in own if point.pattern]
        for part, mode, symbol in (
            (ordered, "lines+markers", style.symbol(index)),
            (lone, "markers", f"{style.symbol(index)}-open"),
        ):
            if part:
                _add(figure, name, part, mode, line, symbol, legend=part is ordered or not ordered)
    if dense is not None:
        line = {"color": style.GREY, "dash": "dot", "width": 1.5}
        figure.add_hline(y=dense, line=line, annotation={"text": f"dense {dense:.4g}", "font": {"size": 11}})
    places = [point.x for own in curves.values() for point in own]
    if dense_size is not None:
        line = {"color": style.GREY, "dash": "dot", "width": 1.5}
        said = {"text": f"dense {dense_size:.4g} {unit}", "font": {"size": 11}}
        figure.add_vline(x=dense_size, line=line, annotation=said, annotation_position="bottom left")
        places.append(dense_size)
    room = 0.05 * (max(places) - min(places)) or 1.0 if unit and places else 5
    figure.update_xaxes(nticks=9, showgrid=False, range=[min(places) - room, max(places) + room] if places else None)
    style.legend_below(figure)
    figure.update_layout(margin={"t": 60, "b": 96})
    return figure


def _add(
    figure: go.Figure, name: str, points: Sequence[Point], mode: str, line: dict, symbol: str, *, legend: bool
) -> None:
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.mean for point in points],
        error_y={
            "type": "data",
            "array": [point.spread for point in points],
            "visible": any(point.spread for point in points),
            "thickness": 1.5,
            "width": 4,
        },
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode=mode,
        line=line,
        marker={"symbol": symbol, "size": 9, "color": line["color"]},
        customdata=[[point.label, f"± {point.spread:.2g}" if point.spread else ""] for point in points],
        hovertemplate=f"{name} %{{customdata[0]}}: %{{y:.4g}} %{{customdata[1]}}<extra></extra>",
    )


def damage_scatter(
    groups: Mapping[str, Sequence[tuple[float, float]]], *, spearman: float | None, what: str
) -> go.Figure:
    """Predicted damage against measured latent error, one mark per plan, on log axes; `groups` are sorts of plans.

    spearman: rank correlation over all plans, shown in the title. what: what was measured, in a few words.
    """
    count = sum(map(len, groups.values()))
    found = "" if spearman is None else f"Spearman {spearman:.3f}, "
    figure = style.blank(
        f"Predicted damage, measured<br><sup>{found}{count} {what}</sup>",
        alt=f"Measured latent error over predicted damage: {found}{count} {what}.",
        x="predicted damage",
        y="latent MSE to dense",
        revision="damage",
    )
    for index, (name, pairs) in enumerate(groups.items()):
        figure.add_scatter(
            x=[predicted for predicted, _ in pairs],
            y=[measured for _, measured in pairs],
            name=name,
            mode="markers",
            marker={"symbol": style.symbol(index), "size": 8, "color": style.colour(index), "line": style.OUTLINE},
            hovertemplate=f"{name}: predicted %{{x:.3g}}, measured %{{y:.3g}}<extra></extra>",
        )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    style.legend_below(figure)
    figure.update_layout(margin={"t": 60, "b": 96})
    return figure
