"""Where the cut falls: the layer's saliencies on a log axis, kept and pruned stacked."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dit_prune_viz.figures import style

BINS = 60
_SHIFT = 17
"""Bits of a float32 that are left out: what stays, exponent and 6 bits, orders positive numbers in steps of 1.6 %."""

_FINE = 1 << (31 - _SHIFT)
_CHUNK = 1 << 22


def saliency_histogram(
    scores: np.ndarray, keep: np.ndarray, *, single_cut: bool, selected: np.ndarray | None = None
) -> go.Figure:
    """`scores`, boolean `keep` and, if anything is selected, boolean `selected` share the weight's shape.

    With `single_cut` all weights were ranked together, and a line marks the lowest kept saliency; otherwise every
    group has its own cut and the overlap of the two colours shows how far the cuts lie apart. All weights are counted;
    the edges of the bars are rounded to 1.6 %, which spares taking millions of logarithms.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32).ravel()
    keep = keep.ravel()
    counts = _count(scores, keep, None if selected is None else selected.ravel())
    kept = int(counts[:, 1].sum())
    if not counts[1:].sum():
        return style.message("All saliencies of this layer are zero.")
    figure = style.blank(
        "Saliency and the cut" if selected is None else "Saliency",  # the legend needs the room
        alt=f"Histogram of {scores.size:,} saliencies: {kept:,} kept, {scores.size - kept:,} pruned.",
        x="saliency",
        y="weights",
        revision="saliency",
    )
    edges, binned = _bars(counts)
    centres = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
    widths = np.diff(edges).astype(np.float32)
    for name, column, fill, pattern in (("pruned", 0, style.PRUNED, "/"), ("kept", 1, style.KEPT, "")):
        figure.add_bar(
            x=centres,
            y=binned[:, column].sum(1),
            width=widths,
            name=name,
            marker={
                "color": fill,
                "opacity": 1 if selected is None else 0.45,
                "pattern": {"shape": pattern, "size": 5, "solidity": 0.35, "fgopacity": 0.9},
            },
            hovertemplate="%{y:,} " + name + "<extra></extra>",
        )
    if selected is not None:
        figure.add_bar(
            x=centres,
            y=binned[:, :, 1].sum(1),
            width=widths * 0.5,
            offset=-widths * 0.25,
            base=0,
            name="selected",
            marker={"color": style.ORANGE, "line": {"width": 0.5, "color": "rgba(40,40,40,.75)"}},
            hovertemplate="%{y:,} selected<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0, dragmode="select", selectdirection="h", margin={"t": 34, "b": 40})
    figure.update_xaxes(**style.power_of_ten(edges))
    if single_cut and 0 < kept < scores.size:
        lowest = float(scores.min(where=keep, initial=np.inf))
        figure.add_vline(
            x=np.log10(lowest) if lowest > 0 else edges[0], line={"dash": "dash", "width": 2, "color": style.GREY}
        )
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"})
    return figure


def _count(scores: np.ndarray, keep: np.ndarray, selected: np.ndarray | None) -> np.ndarray:
    """How many weights there are, by fine bin of saliency, pruned or kept, and selected or not: (bins, 2, 2)."""
    bits = scores.view(np.uint32)
    counts = np.zeros(_FINE * 4, dtype=np.int64)
    for start in range(0, len(bits), _CHUNK):
        part = slice(start, start + _CHUNK)
        index = (bits[part] >> _SHIFT) * np.uint32(4) + keep[part].astype(np.uint32) * np.uint32(2)
        if selected is not None:
            index += selected[part]
        counts += np.bincount(index, minlength=len(counts))
    return counts.reshape(_FINE, 2, 2)


def _bars(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log10 edges of bars, and counts like the fine ones for each; the lowest 0.1 % and zeros are in the first."""
    filled = counts.sum((1, 2))
    filled[0] = 0  # zeros have no logarithm
    running = np.cumsum(filled)
    first = int(np.searchsorted(running, running[-1] * 0.001, side="right"))
    last = int(np.flatnonzero(filled)[-1]) + 1
    with np.errstate(invalid="ignore"):  # beyond infinity lie NaNs, which no saliency is
        values = (np.arange(_FINE + 1, dtype=np.uint32) << _SHIFT).view(np.float32).astype(np.float64)
    low, high = np.log10(values[[first, last]])
    inner = np.searchsorted(values, 10 ** np.linspace(low, high, BINS + 1)[1:-1])
    bounds = np.unique(np.concatenate([[first], np.clip(inner, first, last), [last]]))
    binned = np.add.reduceat(counts, bounds[:-1], axis=0)
    binned[-1] = counts[bounds[-2] : last].sum(0)
    binned[0] += counts[:first].sum(0)
    return np.log10(values[bounds]), binned
