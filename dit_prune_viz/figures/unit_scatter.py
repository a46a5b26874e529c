"""One layer's units (rows, columns or single weights) as dots coloured by cluster, over the density of all of them."""

from __future__ import annotations

import zlib

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

DENSITY_BINS = 80
SVG_LIMIT = 3000
DENSITY = [[0, "rgba(128,128,128,0)"], [0.15, "rgba(128,128,128,.25)"], [1, "rgba(128,128,128,.8)"]]


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
) -> go.Figure:
    """Draw the units listed in `shown` (indices into `points`, shape (n, 2)), one trace per cluster in `labels` (n,).

    Every dot carries its unit's index. When `shown` is a sample, the title says how many of how many are drawn, and the
    density of all `points` lies beneath them; points that are NaN (never projected) stay out of it. A lasso reports
    `subject`, the name of what was drawn, along with its units.
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
    if dense:
        _add_density(figure, points)
    draw = go.Scatter if len(shown) <= SVG_LIMIT else go.Scattergl
    shown_labels = labels[shown]
    size = 8 if len(shown) <= 500 else 6 if len(shown) <= SVG_LIMIT else 4
    for cluster in np.unique(shown_labels):
        members = shown[shown_labels == cluster]
        figure.add_trace(
            draw(
                x=points[members, 0].astype(np.float32),
                y=points[members, 1].astype(np.float32),
                customdata=members.astype(np.int32),
                mode="markers",
                name=f"cluster {cluster}",
                hovertemplate=f"{unit} %{{customdata}}<br>%{{x:.3f}}, %{{y:.3f}}<extra></extra>",
                marker=_marker(int(cluster), size),
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"color": style.GREY, "opacity": 0.35}},
                meta={"units": True},
            )
        )
    # A selection is kept as indices into the traces, so it lasts only as long as the clusters do.
    figure.update_layout(dragmode="lasso", margin={"t": 60}, selectionrevision=zlib.crc32(labels.tobytes()))
    figure.layout.meta |= {"subject": subject}
    style.legend_below(figure)
    return figure


def _add_density(figure: go.Figure, points: np.ndarray) -> None:
    counts, x_edges, y_edges = np.histogram2d(points[:, 0], points[:, 1], bins=DENSITY_BINS)
    figure.add_heatmap(
        z=np.log10(1 + counts.T).astype(np.float32),
        x=_centres(x_edges).astype(np.float32),
        y=_centres(y_edges).astype(np.float32),
        colorscale=DENSITY,
        showscale=False,
        hoverinfo="skip",
    )


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _marker(cluster: int, size: int) -> dict:
    outline = style.OUTLINE if size >= 6 else {"width": 0}
    return {
        "size": size,
        "symbol": style.symbol(cluster),
        "color": style.colour(cluster),
        "opacity": 0.9,
        "line": outline,
    }
