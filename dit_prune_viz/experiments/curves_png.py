"""The curves as a PNG, drawn with Pillow so that a machine without a browser can make one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from dit_prune_viz.experiments.table import COLUMNS, Line

WIDTH, HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 18, 40, 44
_FINE = 2  # drawn larger and scaled down, for smooth lines
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#606060")
_INK, _GRID = "#222222", "#DDDDDD"


def draw_curves(lines: Sequence[Line]) -> Image.Image:
    """One panel per score: means over sparsity with whiskers of one spread; patterns such as 2:4 as lone open marks.

    Recipes differ by colour and by mark. Scores that no line has are left out.
    """
    scores = [score for score in COLUMNS if any(line.figures[score] for line in lines if line.recipe != "dense")]
    names = list(dict.fromkeys(line.recipe for line in lines if line.recipe != "dense"))
    columns = min(2, max(1, len(scores)))
    legend = 24 * -(-len(names) // 4) + 12
    size = columns * WIDTH, -(-max(1, len(scores)) // columns) * HEIGHT + legend
    image = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    pen = _Pen(ImageDraw.Draw(image))
    for place, score in enumerate(scores):
        _panel(pen, place % columns * WIDTH, place // columns * HEIGHT, score, lines, names)
    for place, name in enumerate(names):
        x, y = 20 + place % 4 * (size[0] - 40) / 4, size[1] - legend + place // 4 * 24 + 12
        pen.mark(x, y, place, filled=True)
        pen.text(x + 12, y, name, "lm")
    return image.resize(size, Image.Resampling.LANCZOS)


def _panel(pen: _Pen, x0: float, y0: float, score: str, lines: Sequence[Line], names: Sequence[str]) -> None:
    shown = [(line, line.figures[score]) for line in lines if line.recipe != "dense" and line.figures[score]]
    low = min(figure.mean - figure.spread for _, figure in shown)
    high = max(figure.mean + figure.spread for _, figure in shown)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    xs = [100 * line.sparsity for line, _ in shown]
    left, right = min(xs) - 3, max(xs) + 3

    def at(sparsity: float, value: float) -> tuple[float, float]:
        inside = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        return (
            x0 + _LEFT + (sparsity - left) / (right - left) * inside[0],
            y0 + HEIGHT - _BOTTOM - (value - low) / (high - low) * inside[1],
        )

    pen.text(x0 + _LEFT, y0 + 18, COLUMNS[score], "lm", size=15)
    for step in range(5):
        value = low + (high - low) * (step + 0.5) / 5
        pen.line([at(left, value), at(right, value)], _GRID, 1)
        pen.text(x0 + _LEFT - 8, at(left, value)[1], f"{value:.3g}", "rm")
    for sparsity in sorted({round(x) for x in xs}):
        pen.text(at(sparsity, low)[0], y0 + HEIGHT - _BOTTOM + 14, f"{sparsity}", "mm")
    pen.text(x0 + (_LEFT + WIDTH - _RIGHT) / 2, y0 + HEIGHT - 14, "pruned weights, %", "mm")
    for place, name in enumerate(names):
        own = sorted(((line, figure) for line, figure in shown if line.recipe == name), key=lambda p: p[0].sparsity)
        colour = _COLOURS[place % len(_COLOURS)]
        pen.line([at(100 * line.sparsity, figure.mean) for line, figure in own if ":" not in line.level], colour, 2)
        for line, figure in own:
            x, y = at(100 * line.sparsity, figure.mean)
            ends = [at(100 * line.sparsity, figure.mean + sign * figure.spread) for sign in (-1, 1)]
            pen.line(ends, colour, 1)
            pen.mark(x, y, place, filled=":" not in line.level)


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
