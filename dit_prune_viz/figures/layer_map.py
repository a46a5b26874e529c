"""The model at a glance: a heat map of one statistic over blocks (x) and kinds of layer (y)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style
from dit_prune_viz.formatting import percent
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pipelines.layers import OUTSIDE

_MOST_TICKS = 8


def layer_map(
    names: Sequence[str],
    blocks: Sequence[int],
    kinds: Sequence[str],
    stacks: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    unit: str = "",
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> go.Figure:
    """One cell per block and kind; it carries its layer's name, so that a click can open it.

    Layers of one block and kind, such as experts, share a cell: it shows and names the one with the greatest value, and
    says how many there are and which.

    With `log` the colour follows log10 of the value (zeros stay empty) while the hover text shows the value itself.
    `limits` are the values at the ends of the colours, where several maps are to be compared.
    """
    rows = sorted(set(kinds), key=KINDS.index)
    row_of = {kind: row for row, kind in enumerate(rows)}
    columns = sorted(set(blocks))
    column_of = {block: column for column, block in enumerate(columns)}
    shape = (len(rows), len(columns))
    raw = np.full(shape, np.nan)
    sharing: dict[tuple[int, int], dict[str, float]] = {}
    for name, block, kind, value in zip(names, blocks, kinds, values, strict=True):
        sharing.setdefault((row_of[kind], column_of[block]), {})[name] = value
    cell_names, words, all_names = (np.full(shape, "", dtype=object) for _ in range(3))
    places = dict(zip(blocks, stacks, strict=True))
    for (row, column), layers in sharing.items():
        name = max(layers, key=lambda name: (layers[name] == layers[name], layers[name]))  # what is no number is least
        raw[row, column], cell_names[row, column] = layers[name], name
        place = OUTSIDE if places[columns[column]] == OUTSIDE else f"block {columns[column]}"
        words[row, column] = f"{rows[row]}, {place}" + (f", greatest of {len(layers)}" if len(layers) > 1 else "")
        all_names[row, column] = "\n".join(layers) if len(layers) > 1 else ""
    colour = np.log10(np.where(raw > 0, raw, np.nan)) if log else raw
    low, high = (None, None) if limits is None else np.log10(limits) if log else limits

    alt = f"Heat map of {title} for {len(names)} layers: {len(columns)} blocks by {len(rows)} kinds of layer."
    figure = style.blank(title, alt=alt, x="block", revision="map")
    figure.add_heatmap(
        z=colour,
        x=columns,
        y=rows,
        customdata=np.stack([cell_names, _labels(raw, unit), words, all_names], axis=-1),
        zmin=low,
        zmax=high,
        colorscale="Cividis",
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[2]}<br>" + title + " %{customdata[1]}<extra></extra>",
        colorbar=_colourbar(colour if limits is None else np.array([low, high]), log, unit),
    )
    # Without a range of its own the axis would make room for the names of the stacks on a narrow screen.
    edges = [columns[0] - 0.5, columns[-1] + 0.5]
    figure.update_xaxes(showgrid=False, range=edges, tickangle=0, tickvals=_ticks(columns, places))
    figure.update_yaxes(showgrid=False, autorange="reversed")
    figure.update_layout(margin={"l": 110, "r": 8, "t": 64, "b": 44})
    _mark_stacks(figure, blocks, stacks)
    return figure


def _ticks(columns: Sequence[int], places: dict[int, str]) -> list[int]:
    """The first and the last block, and at most six in between at even steps; none outside the blocks."""
    blocks = [column for column in columns if places[column] != OUTSIDE]
    if not blocks:
        return []
    first, last = blocks[0], blocks[-1]
    least = (last - first) / (_MOST_TICKS - 1)
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step >= least), last - first)
    # One that stands too close to the last would touch it.
    return [tick for tick in range(first, last, step) if last - tick > step / 2] + [last]


def _labels(raw: np.ndarray, unit: str) -> np.ndarray:
    suffix = f" {unit}" if unit else ""
    words = percent if unit == "%" else lambda value: f"{value:.3g}{suffix}"
    return np.array([[words(value) if value == value else "" for value in row] for row in raw], dtype=object)


def _colourbar(colour: np.ndarray, log: bool, unit: str) -> dict:
    bar = {"thickness": 12, "outlinewidth": 0, "len": 1.0, "tickfont": {"size": 11}}
    finite = colour[np.isfinite(colour)]
    if log and finite.size:
        ticks = np.linspace(finite.min(), finite.max(), 5) if np.ptp(finite) else finite[:1]
        bar |= {
            "tickvals": ticks,
            "ticktext": [percent(10**tick, 2) if unit == "%" else f"{10**tick:.2g}" for tick in ticks],
        }
    elif unit == "%":
        bar |= {"tickformat": ".1%" if finite.size and np.ptp(finite) < 0.05 else ".0%"}
    return bar


def _mark_stacks(figure: go.Figure, blocks: Sequence[int], stacks: Sequence[str]) -> None:
    """A line where a stack of blocks begins (dual-stream against single-stream), named above the cells."""
    if len(set(stacks)) < 2:
        return
    # Layers outside the blocks may stand on both sides of them.
    runs = itertools.groupby(sorted(dict(zip(blocks, stacks, strict=True)).items()), key=lambda pair: pair[1])
    for index, (stack, run) in enumerate(runs):
        start = next(run)[0] - 0.5
        if index:
            figure.add_vline(x=start, line={"width": 2, "dash": "dot", "color": style.GREY})
        figure.add_annotation(
            x=start,
            y=1,
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            yshift=13 * (index % 2),  # neighbours at two heights, so that they do not cover each other
            text=stack,
            showarrow=False,
            font={"size": 11},
        )
