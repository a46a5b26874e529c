"""How good every number of clusters was that was tried, and which one was taken."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dit_prune_viz.figures import style


def cluster_choice(
    sizes: Sequence[int], scores: Sequence[float], *, chosen: int, criterion: str, higher: bool
) -> go.Figure:
    """scores (s,) over numbers of clusters sizes (s,), of which `chosen` was taken; it need not be among them.

    criterion: what the scores are called; higher: whether the highest is the best, or the lowest.
    """
    better = "highest" if higher else "lowest"
    tried = ", ".join(f"{size}: {score:.3g}" for size, score in zip(sizes, scores, strict=True))
    figure = style.blank(
        f"Number by {better} {criterion}: {chosen}",
        alt=f"{criterion} over numbers of clusters, {chosen} was taken: {tried}.",
        x="clusters",
        revision=f"choice {criterion}",
    )
    figure.add_scatter(
        x=list(sizes),
        y=list(scores),
        mode="lines+markers",
        line={"color": style.BLUE, "width": 2.5},
        marker={"symbol": "circle", "size": 7, "color": style.BLUE},
        hovertemplate="%{x} clusters: " + criterion + " %{y:.4g}<extra></extra>",
    )
    taken = [(size, score) for size, score in zip(sizes, scores, strict=True) if size == chosen]
    for size, score in taken:
        figure.add_scatter(
            x=[size],
            y=[score],
            mode="markers+text",
            text=[f"{size} taken"],
            textposition="bottom center" if higher else "top center",
            marker={"symbol": "diamond-open", "size": 15, "color": style.VERMILLION, "line": {"width": 2.5}},
            hoverinfo="skip",
        )
    low, high = min(scores), max(scores)
    room = 0.18 * (high - low or 1)
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_yaxes(nticks=4, range=[low - room, high + room])
    figure.update_layout(margin={"l": 52, "r": 8, "t": 36, "b": 40}, showlegend=False)
    return figure
