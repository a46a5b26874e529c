"""The figures of a report: the map, all layers as dots, and the curves of a trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dit_prune_viz.calibration.layer_statistics import LayerStatistics
from dit_prune_viz.export.report_parts.content import Drawing, Tradeoff, TradeoffLine
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import layer_scatter
from dit_prune_viz.figures.statistic import STATISTICS
from dit_prune_viz.figures.tradeoff import Point, sampled, tradeoff
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.report import PlanReport

MAPPED = ("damage", "sparsity", "g_out", "weights", "weight_scale", "activation_norm")
HEIGHTS = ("activation_norm", "g_out", "damage")
"""What the dots' height may be, over the weight scale."""
MOST_DOTS = 2_000
"""Layers that are drawn as dots."""
SCORES = {
    "clip": ("CLIP", 2, "CLIP score, 100·max(mean cos, 0): how well the pictures fit their prompts; more is better."),
    "ssim": ("SSIM", 3, "Structural similarity to the dense model's pictures; 1 where they are equal."),
    "psnr": ("PSNR, dB", 2, "Peak signal-to-noise ratio to the dense model's pictures in dB; more is closer."),
    "latent_mse": ("Latent MSE", 4, "Mean squared error of the finished latents to the dense model's; 0 is equal."),
    "damage": ("Predicted damage", 4, "Share of the layers' output energy that the masks remove; no picture is drawn."),
}
"""Score → its name, the digits that mean something, and what it says."""


def drawing(key: str, label: str, help: str, figure: Figure) -> Drawing:
    """A figure as a report carries it."""
    return Drawing(key, label, help, figure.to_json(), str((figure.layout.meta or {}).get("alt", label)))


def draw_maps(
    layers: Sequence[Layer], report: PlanReport, known: Mapping[str, LayerStatistics] | None
) -> tuple[Drawing, ...]:
    """A map of blocks × kinds for every statistic that is known.

    Args:
        layers: of the model.
        report: of the same layers.
        known: layer → its weight scale and activation norm; None leaves these out.
    """
    made = []
    for key in MAPPED:
        values = _values(key, layers, report, known)
        if values is None:
            continue
        statistic = STATISTICS[key]
        figure = layer_map(
            [escape(layer.name) for layer in layers],
            [layer.block for layer in layers],
            [layer.kind for layer in layers],
            [layer.stack for layer in layers],
            values,
            title=statistic.label,
            unit=statistic.unit,
            log=statistic.log,
        )
        (heat,) = figure.data
        heat.customdata = heat.customdata[..., :3]  # of layers that share a cell all names would go along
        made.append(drawing(f"map-{key}", statistic.label, _sentence(statistic.help), figure))
    return tuple(made)


def draw_scatters(
    layers: Sequence[Layer], plan: PruningPlan, report: PlanReport, known: Mapping[str, LayerStatistics] | None
) -> tuple[Drawing, ...]:
    """All layers as dots over their weight scale; none without what `known` says of them.

    Args:
        layers: of the model.
        plan: of the same layers.
        report: of the plan.
        known: as in `draw_maps`.
    """
    if known is None:
        return ()
    chosen = evenly(len(layers), MOST_DOTS)
    shown = [layers[place] for place in chosen]
    x = _values("weight_scale", layers, report, known)
    made = []
    for key in HEIGHTS:
        y = _values(key, layers, report, known)
        if y is None:
            continue
        threshold = plan.threshold if key == "g_out" else None
        figure = layer_scatter(
            [escape(layer.name) for layer in shown],
            [layer.kind for layer in shown],
            [x[place] for place in chosen],
            [y[place] for place in chosen],
            x_label=STATISTICS["weight_scale"].label,
            y_label=STATISTICS[key].label,
            threshold=threshold,
            own=None if threshold is None else plan.own_threshold,
            by_row=[plan.layer(layer.name).granularity == "row" for layer in shown],
        )
        help = f"{_sentence(STATISTICS[key].help)} Every dot is a layer; both axes are logarithmic."
        made.append(drawing(f"dots-{key}", STATISTICS[key].label, help, figure))
    return tuple(made)


def draw_tradeoff(lines: Sequence[TradeoffLine]) -> Tradeoff | None:
    """A curve per recipe for every score that was measured.

    Args:
        lines: as `experiments.table.tabulate` gives them, the dense model's among them or not.
    """
    lines = tuple(lines)
    made = []
    for key, (label, _, help) in SCORES.items():
        measured = [line for line in lines if line.figures.get(key)]
        shown = [line for line in measured if line.recipe != "dense"]
        if not shown:
            continue
        dense = next((line.figures[key].mean for line in measured if line.recipe == "dense"), None)
        about = {"title": label, "note": _note(shown), "dense": dense if key == "clip" else None}
        made.append(drawing(f"tradeoff-{key}", label, help, tradeoff(_curves(shown, key), **about)))
        sized = [line for line in shown if _size(line)]
        if sized:
            most = max(map(_size, lines))
            unit, each = ("GB", 1e9) if most >= 1e9 else ("MB", 1e6)
            whole = next((_size(line) / each for line in lines if line.recipe == "dense" and _size(line)), None)
            figure = tradeoff(_curves(sized, key, each), **about, unit=unit, dense_size=whole)
            made.append(drawing(f"tradeoff-{key}-size", f"{label} over size", help, figure))
    return Tradeoff(tuple(made), lines) if made else None


def _curves(lines: Sequence[TradeoffLine], key: str, each: float = 0.0) -> dict[str, list[Point]]:
    """Recipe → its points over sparsity in percent; over sizes in units of so many bytes where these are given."""
    curves: dict[str, list[Point]] = {}
    for line in lines:
        score = line.figures[key]
        x = _size(line) / each if each else 100 * line.sparsity
        curves.setdefault(escape(line.recipe), []).append(Point(x, score.mean, score.spread, escape(line.level)))
    return curves


def _size(line: TradeoffLine) -> int:
    """Bytes of the transformer as it would be stored; 0 where they were not noted."""
    return getattr(line, "nbytes", None) or 0


def evenly(n: int, most: int) -> np.ndarray:
    """At most so many of n places, evenly spaced."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).astype(int))


def _sentence(help: str) -> str:
    """The help of a statistic without what follows a semicolon, which is about single timesteps."""
    words = help.partition(";")[0]
    return f"{words[:1].upper()}{words[1:]}."


def _note(lines: Sequence[TradeoffLine]) -> str:
    return sampled(lines[0].prompts, max(line.seeds for line in lines))


def _values(
    key: str, layers: Sequence[Layer], report: PlanReport, known: Mapping[str, LayerStatistics] | None
) -> list[float] | None:
    """A statistic of every layer, None where it is not known."""
    if key == "weights":
        return [layer.weights for layer in layers]
    if key in ("sparsity", "damage", "g_out"):
        return [getattr(one, key) for one in report.layers]
    if known is None or any(getattr(known[layer.name], key) is None for layer in layers):
        return None
    return [getattr(known[layer.name], key) for layer in layers]
