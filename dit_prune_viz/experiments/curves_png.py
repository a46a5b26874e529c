"""The curves as a PNG, drawn with Pillow so that a machine without a browser can make one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from dit_prune_viz.experiments.table import COLUMNS, Line, unit_of

WIDTH, HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 18, 40, 44
_FINE = 2  # drawn larger and scaled down, for smooth lines
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#606060")
_INK, _GRID = "#222222", "#DDDDDD"
_TICKS = 6


@dataclass(frozen=True)
class _Axis:
    """What lies on the horizontal axis.

    place: of a line, None where it has none. room: beside the outermost points. ticks: labels at the points themselves,
    or at even steps. dense: where the dense model is marked.
    """

    title: str
    place: Callable[[Line], float | None]
    room: float | None
    ticks: bool
    dense: float | None = None


def draw_curves(lines: Sequence[Line]) -> Image.Image:
    """One panel per score: means over sparsity with whiskers of one spread; patterns such as 2:4 as lone open marks.

    Beside it the same over size, where sizes are known. Recipes differ by colour and by mark. Scores that no line has
    are left out.
    """
    pruned = [line for line in lines if line.recipe != "dense"]
    scores = [score for score in COLUMNS if any(line.figures[score] for line in pruned)]
    names = list(dict.fromkeys(line.recipe for line in pruned))
    axes = [_Axis("pruned weights, %", lambda line: 100 * line.sparsity, 3, ticks=True)]
    if any(line.nbytes is not None for line in pruned):
        unit = unit_of(lines)
        dense = next((unit.of(line.nbytes) for line in lines if line.recipe == "dense"), None)
        title = f"transformer as stored, {unit.name}"
        axes.append(_Axis(title, lambda line: unit.of(line.nbytes), None, ticks=False, dense=dense))
    panels = [(score, axis) for score in scores for axis in axes]
    columns = min(2, max(1, len(panels)))
    legend = 24 * -(-len(names) // 4) + 12
    size = columns * WIDTH, -(-max(1, len(panels)) // columns) * HEIGHT + legend
    image = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    pen = _Pen(ImageDraw.Draw(image))
    for place, (score, axis) in enumerate(panels):
        _panel(pen, place % columns * WIDTH, place // columns * HEIGHT, score, axis, pruned, names)
    for place, name in enumerate(names):
        x, y = 20 + place % 4 * (size[0] - 40) / 4, size[1] - legend + place // 4 * 24 + 12
        pen.mark(x, y, place, filled=True)
        pen.text(x + 12, y, name, "lm")
    return image.resize(size, Image.Resampling.LANCZOS)


def _panel(
    pen: _Pen, x0: float, y0: float, score: str, axis: _Axis, lines: Sequence[Line], names: Sequence[str]
) -> None:
    shown = [(line, line.figures[score], axis.place(line)) for line in lines]
    shown = [(line, figure, x) for line, figure, x in shown if figure and x is not None]
    if not shown:
        return
    low = min(figure.mean - figure.spread for _, figure, _ in shown)
    high = max(figure.mean + figure.spread for _, figure, _ in shown)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    xs = [x for *_, x in shown]
    ends = [*xs, axis.dense] if axis.dense is not None else xs
    beside = (0.06 * (max(ends) - min(ends)) or 1.0) if axis.room is None else axis.room
    left, right = min(ends) - beside, max(ends) + beside

    def at(x: float, value: float) -> tuple[float, float]:
        inside = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        return (
            x0 + _LEFT + (x - left) / (right - left) * inside[0],
            y0 + HEIGHT - _BOTTOM - (value - low) / (high - low) * inside[1],
        )

    pen.text(x0 + _LEFT, y0 + 18, COLUMNS[score], "lm", size=15)
    for step in range(5):
        value = low + (high - low) * (step + 0.5) / 5
        pen.line([at(left, value), at(right, value)], _GRID, 1)
        pen.text(x0 + _LEFT - 8, at(left, value)[1], f"{value:.3g}", "rm")
    for tick in sorted({round(x) for x in xs}) if axis.ticks else _round_numbers(left, right):
        pen.text(at(tick, low)[0], y0 + HEIGHT - _BOTTOM + 14, f"{tick:.4g}", "mm")
    pen.text(x0 + (_LEFT + WIDTH - _RIGHT) / 2, y0 + HEIGHT - 14, axis.title, "mm")
    if axis.dense is not None:
        pen.line([at(axis.dense, low), at(axis.dense, high)], _INK, 1)
        pen.text(at(axis.dense, high)[0] - 4, at(axis.dense, high)[1] + 8, "dense", "rm")
    for place, name in enumerate(names):
        own = sorted((one for one in shown if one[0].recipe == name), key=lambda one: one[2])
        colour = _COLOURS[place % len(_COLOURS)]
        pen.line([at(x, figure.mean) for line, figure, x in own if ":" not in line.level], colour, 2)
        for line, figure, x in own:
            pen.line([at(x, figure.mean + sign * figure.spread) for sign in (-1, 1)], colour, 1)
            pen.mark(*at(x, figure.mean), place, filled=":" not in line.level)


def _round_numbers(low: float, high: float) -> list[float]:
    """At most `_TICKS` multiples of 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(power * times for times in (1, 2, 5, 10) if power * times * _TICKS >= high - low)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Pen:
    """Draws in panel pixels on the finer picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        if len(points) > 1:
            self._draw.line([(x * _FINE, y * _FINE) for x, y in points], colour, width * _FINE)

    def text(self, x: float, y: float, text: str, anchor: str, size: int = 12) -> None:
        font = ImageFont.load_default(size * _FINE)
        self._draw.text((x * _FINE, y * _FINE), text, _INK, font, anchor)

    def mark(self, x: float, y: float, place: int, *, filled: bool) -> None:
        """Corners by place: circle, diamond, square, triangle, …; the colour repeats later than the shape."""
        colour = _COLOURS[place % len(_COLOURS)]
        fill = colour if filled else "white"
        radius = 5 * _FINE
        circle = (x * _FINE, y * _FINE, radius)
        shape = place % 5
        if shape == 0:
            box = [circle[0] - radius, circle[1] - radius, circle[0] + radius, circle[1] + radius]
            self._draw.ellipse(box, fill, colour, _FINE)
        else:
            corners, turn = ((4, 0), (4, 45), (3, 0), (3, 180))[shape - 1]
            self._draw.regular_polygon(circle, corners, turn, fill, colour, _FINE)
