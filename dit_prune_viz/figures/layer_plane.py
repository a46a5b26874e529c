"""All layers as dots in the weight–activation plane, coloured by the group that each is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

MOST_IN_LEGEND = 8
"""Groups that a legend has room for; of more, the table beside the plot tells colours and symbols."""

SIZES = ((150, 11), (400, 9))
"""Dots up to a number, and how large they are in pixels; more are of 7."""


def layer_plane(
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    told: Sequence[str],
    *,
    groups: Sequence[str],
    looks: Sequence[int],
    x_label: str,
    y_label: str,
    grouped: str,
    subject: str = "",
    y_logarithmic: bool = True,
) -> go.Figure:
    """One dot per layer, one trace per group.

    Every dot carries its layer's index, and as its text the name that a click opens. A lasso reports `subject`, the
    name of what was drawn, along with the indices.

    Args:
        points: (layers, 2), log10 of both values.
        labels: (layers,) the group of each layer.
        names: of the layers.
        told: what hovering tells of each layer, one line.
        groups: the groups' names.
        looks: their colours and symbols.
        x_label: what the values are, without log10.
        y_label: as x_label.
        grouped: how the layers are grouped, for the title.
        subject: names the layers, see above.
        y_logarithmic: whether y is log10 of something; else it is drawn as it is.
    """
    title = f"{len(names):,} layers, {grouped}"
    alt = f"Scatter of {len(names):,} layers, {grouped}: {y_label} over {x_label}."
    figure = style.blank(title, alt=alt, x=x_label, y=y_label, revision=f"layers {subject} {y_label}")
    size = next((size for most, size in SIZES if len(names) <= most), 7)
    for group in np.unique(labels):
        own = np.flatnonzero(labels == group)
        figure.add_scatter(
            x=points[own, 0].astype(np.float32),
            y=points[own, 1].astype(np.float32),
            customdata=own.astype(np.int32),
            text=[names[i] for i in own],
            hovertext=[f"<b>{names[i]}</b><br>{told[i]}" for i in own],
            hovertemplate="%{hovertext}<extra></extra>",
            mode="markers",
            name=groups[group],
            marker={
                "size": size,
                "symbol": style.symbol(looks[group]),
                "color": style.colour(looks[group]),
                "opacity": 0.9,
                "line": style.OUTLINE,
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"color": style.GREY, "opacity": 0.28}},
            meta={"units": True, "opens": True},
        )
    figure.update_xaxes(**_axis(points[:, 0]))
    figure.update_yaxes(**_axis(points[:, 1]) if y_logarithmic else {})
    figure.update_layout(dragmode="lasso")
    figure.layout.meta |= {"subject": subject}
    if len(groups) <= MOST_IN_LEGEND:
        style.legend_below(figure)
    else:
        figure.update_layout(showlegend=False)
    return figure


def _axis(exponents: np.ndarray) -> dict:
    """Ticks, and a range that stays while groups change."""
    low, high = float(exponents.min()), float(exponents.max())
    margin = 0.06 * (high - low) or 0.5
    return (style.power_of_ten(exponents) or style.decimal_ticks(exponents)) | {"range": [low - margin, high + margin]}
