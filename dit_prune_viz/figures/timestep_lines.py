"""How the inputs of a layer change while a picture is denoised: activation norm over timesteps, a line per cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def timestep_lines(
    timesteps: Sequence[float],
    values: np.ndarray,
    *,
    names: Sequence[str],
    looks: Sequence[int],
    selection: np.ndarray | None = None,
    y_label: str = "activation norm",
) -> go.Figure:
    """`values` (clusters, bins) at the bins' middles `timesteps`, 1 = pure noise; `selection` (bins,) is a line more.

    Bins without inputs are NaN and leave a gap. Time runs as in denoising, from noise on the left to the picture.
    """
    figure = style.blank(
        "Over the timesteps",
        alt=f"{y_label} over {len(timesteps)} timestep bins for {len(names)} clusters.",
        x="timestep, noise → picture",
        y=y_label,
        revision="timesteps",
    )
    for i, (name, look) in enumerate(zip(names, looks, strict=True)):
        figure.add_scatter(
            x=np.asarray(timesteps, dtype=np.float32),
            y=values[i].astype(np.float32),
            name=name,
            mode="lines+markers",
            customdata=np.full(len(timesteps), i, dtype=np.int32),
            line={"color": style.colour(look), "width": 2, "dash": DASHES[look % len(DASHES)]},
            marker={"symbol": style.symbol(look), "size": 6},
            hovertemplate="%{y:.3g}<extra>%{fullData.name}</extra>",
        )
    if selection is not None:
        figure.add_scatter(
            x=np.asarray(timesteps, dtype=np.float32),
            y=selection.astype(np.float32),
            name="selection",
            mode="lines",
            line={"color": style.ORANGE, "width": 5},
            opacity=0.75,
            hovertemplate="%{y:.3g}<extra>selection</extra>",
        )
    figure.update_xaxes(range=[1.02, -0.02])
    drawn = values[values > 0]
    wide = drawn.size > 0 and drawn.max() > 30 * drawn.min()  # 2 and 5 would touch their neighbours
    figure.update_yaxes(type="log", dtick=1 if wide else "D2", tickformat=".1g")
    figure.update_layout(showlegend=False, margin={"t": 34, "b": 40})
    return figure
