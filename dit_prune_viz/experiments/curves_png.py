"""The curves as a PNG, drawn with Pillow so that a machine without a browser can make one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from dit_prune_viz.experiments.table import COLUMNS, WITH_DENSE_LEVEL, Line, unit_of
from dit_prune_viz.figures import style
from dit_prune_viz.figures.tradeoff import DASHES

WIDTH, HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 18, 40, 44
_FINE = 2  # drawn larger and scaled down, for smooth lines
_INK, _GRID, _PALE = "#222222", "#DDDDDD", "#8C8C8C"
_TICKS = 7
_LINE = 20
"""Height of a line of the caption."""
_GAPS = {"solid": (), "dash": (9, 5), "dot": (2, 4), "dashdot": (9, 4, 2, 4), "longdash": (14, 6)}
_GAPS["longdashdot"] = (14, 5, 2, 5)


@dataclass(frozen=True)
class _Axis:
    """What lies on the horizontal axis.

    place: of a line, None where it has none. room: beside the outermost points. dense: where the dense model is marked.
    """

    title: str
    place: Callable[[Line], float | None]
    room: float | None
    dense: float | None = None


def draw_curves(lines: Sequence[Line], caption: Sequence[str] = ()) -> Image.Image:
    """One panel per score: means over sparsity with whiskers of one spread; patterns such as 2:4 as lone open marks.

    Beside it the same over size, where sizes are known. Recipes have the colours, marks and dashes of the Trade-off
    page. Scores that no line has are left out.

    Args:
        lines: as from `tabulate`.
        caption: lines of text above the panels, which say what was measured.
    """
    pruned = [line for line in lines if line.recipe != "dense"]
    scores = [score for score in COLUMNS if any(line.figures[score] for line in pruned)]
    names = list(dict.fromkeys(line.recipe for line in pruned))
    axes = [_Axis("pruned weights, %", lambda line: 100 * line.sparsity, 3)]
    if any(line.nbytes is not None for line in pruned):
        unit = unit_of(lines)
        dense = next((unit.of(line.nbytes) for line in lines if line.recipe == "dense"), None)
        title = f"transformer as stored, {unit.name}"
        axes.append(_Axis(title, lambda line: unit.of(line.nbytes), None, dense))
    panels = [(score, axis) for score in scores for axis in axes]
    columns = min(2, max(1, len(panels)))
    legend, top = 24 * -(-len(names) // 4) + 12, _LINE * len(caption) + (16 if caption else 0)
    size = columns * WIDTH, top + -(-max(1, len(panels)) // columns) * HEIGHT + legend
    image = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    pen = _Pen(ImageDraw.Draw(image))
    for place, text in enumerate(caption):
        pen.text(20, 20 + place * _LINE, text, "lm", size=14 if place == 0 else 12)
    for place, (score, axis) in enumerate(panels):
        _panel(pen, place % columns * WIDTH, top + place // columns * HEIGHT, score, axis, lines, names)
    for place, name in enumerate(names):
        x, y = 20 + place % 4 * (size[0] - 40) / 4, size[1] - legend + place // 4 * 24 + 12
        pen.mark(x, y, place, filled=True)
        pen.text(x + 12, y, name, "lm")
    return image.resize(size, Image.Resampling.LANCZOS)


def _panel(
    pen: _Pen, x0: float, y0: float, score: str, axis: _Axis, lines: Sequence[Line], names: Sequence[str]
) -> None:
    shown = [(line, line.figures[score], axis.place(line)) for line in lines if line.recipe != "dense"]
    shown = [(line, figure, x) for line, figure, x in shown if figure and x is not None]
    if not shown:
        return
    level = (
        next((line.figures[score] for line in lines if line.recipe == "dense"), None)
        if score in WITH_DENSE_LEVEL
        else None
    )
    values = [value for _, one, _ in shown for value in (one.mean - one.spread, one.mean + one.spread)]
    values += [level.mean] if level else []
    low, high = min(values), max(values)
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
    for value, text in round_ticks(low, high):
        pen.line([at(left, value), at(right, value)], _GRID, 1)
        pen.text(x0 + _LEFT - 8, at(left, value)[1], text, "rm")
    for tick, text in round_ticks(left, right):
        pen.text(at(tick, low)[0], y0 + HEIGHT - _BOTTOM + 14, text, "mm")
    pen.text(x0 + (_LEFT + WIDTH - _RIGHT) / 2, y0 + HEIGHT - 14, axis.title, "mm")
    if axis.dense is not None:
        pen.line([at(axis.dense, low), at(axis.dense, high)], _PALE, 1, "dot")
        pen.text(at(axis.dense, low)[0] - 4, at(axis.dense, low)[1] - 8, "dense", "rm")
    if level:
        pen.line([at(left, level.mean), at(right, level.mean)], _PALE, 1, "dot")
        pen.text(at(right, level.mean)[0] - 2, at(right, level.mean)[1] - 8, f"dense {level.mean:.4g}", "rm")
    for place, name in enumerate(names):
        own = sorted((one for one in shown if one[0].recipe == name), key=lambda one: one[2])
        curve = [at(x, figure.mean) for line, figure, x in own if ":" not in line.level]
        pen.line(curve, style.colour(place), 2, DASHES[place // len(style.COLOURS) % len(DASHES)])
        for line, figure, x in own:
            pen.line([at(x, figure.mean + sign * figure.spread) for sign in (-1, 1)], style.colour(place), 1)
            pen.mark(*at(x, figure.mean), place, filled=":" not in line.level)


def round_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """The multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most seven, with as many decimals as
    they need."""
    power = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(power * times for times in (1, 2, 5, 10) if power * times * _TICKS >= high - low)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    multiples = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(step * place, f"{step * place:.{decimals}f}") for place in multiples]


class _Pen:
    """Draws in panel pixels on the finer picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int, dash: str = "solid") -> None:
        for part in _dashed(points, _GAPS[dash]):
            self._draw.line([(x * _FINE, y * _FINE) for x, y in part], colour, width * _FINE)

    def text(self, x: float, y: float, text: str, anchor: str, size: int = 12) -> None:
        font = ImageFont.load_default(size * _FINE)
        self._draw.text((x * _FINE, y * _FINE), text, _INK, font, anchor)

    def mark(self, x: float, y: float, place: int, *, filled: bool) -> None:
        """The page's mark of a method, by its place."""
        colour, symbol = style.colour(place), style.symbol(place)
        fill, radius = colour if filled else "white", 5 * _FINE
        x, y = x * _FINE, y * _FINE
        if symbol == "circle":
            self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill, colour, _FINE)
            return
        corners = [(x + radius * across, y - radius * up) for across, up in _corners(symbol)]
        self._draw.polygon(corners, fill, colour, _FINE)


def _corners(symbol: str) -> list[tuple[float, float]]:
    """Of one of `style.SYMBOLS` but the circle, around the origin, in radii."""

    def around(radii: Sequence[float], turn: float = 0.0) -> list[tuple[float, float]]:
        angles = [math.tau * place / len(radii) + turn for place in range(len(radii))]
        return [
            (radius * math.sin(angle), radius * math.cos(angle)) for radius, angle in zip(radii, angles, strict=True)
        ]

    half, arm = 1 / 3, 1.0
    plus = [(half, arm), (half, half), (arm, half), (arm, -half), (half, -half), (half, -arm)]
    plus += [(-x, -y) for x, y in plus]
    quarter = math.sqrt(0.5)
    shapes = {
        "diamond": around([1.2] * 4),
        "square": around([1.25] * 4, math.pi / 4),
        "triangle-up": around([1.25] * 3),
        "triangle-down": around([1.25] * 3, math.pi),
        "cross": plus,
        "x": [(quarter * (x - y), quarter * (x + y)) for x, y in plus],
        "star": around([1.3, 0.55] * 5),
        "pentagon": around([1.15] * 5),
        "hexagram": around([1.25, 0.72] * 6),
    }
    return shapes[symbol]


def _dashed(points: Sequence[tuple[float, float]], gaps: Sequence[int]) -> list[list[tuple[float, float]]]:
    """A line in pieces: drawn and left out by turns, as long as `gaps` says; whole without gaps."""
    if len(points) < 2:
        return []
    if not gaps:
        return [list(points)]
    pieces, lengths = [], itertools.cycle(gaps)
    left, drawn = next(lengths), True
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while done < length:
            end = min(length, done + left)
            if drawn:
                pieces.append([(x0 + (x1 - x0) * at / length, y0 + (y1 - y0) * at / length) for at in (done, end)])
            left -= end - done
            done = end
            if left <= 1e-9:
                left, drawn = next(lengths), not drawn
    return pieces
