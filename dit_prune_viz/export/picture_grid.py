"""Pictures of prompts × settings as one picture, with names along both sides."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from dit_prune_viz.errors import UserError

_GAP, _SIZE = 8, 15
_LEFT = 160
"""Pixels for the names of the rows."""
_MOST_LINES = 6
_INK, _PAPER = "#222222", "white"


def picture_grid(
    pictures: Sequence[Sequence[Image.Image | None]], rows: Sequence[str], columns: Sequence[str]
) -> Image.Image:
    """Lay pictures out as a table.

    Args:
        pictures: a row of them per prompt; None leaves a place empty.
        rows: prompts, or whatever a row has in common.
        columns: settings, or whatever a column has in common.

    Raises:
        UserError: no pictures, or rows and names that do not fit together.
    """
    there = [picture for row in pictures for picture in row if picture is not None]
    if not there or len(pictures) != len(rows) or any(len(row) != len(columns) for row in pictures):
        raise UserError("A grid needs a picture or a gap for every row and column; draw the pictures first.")
    width, height = max(one.width for one in there), max(one.height for one in there)
    font = ImageFont.load_default(_SIZE)
    heads = [_lines(name, width, font) for name in columns]
    top = _GAP + max(map(len, heads)) * (_SIZE + 3)
    size = _LEFT + len(columns) * (width + _GAP), top + len(rows) * (height + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, lines in enumerate(heads):
        middle = _LEFT + place * (width + _GAP) + width // 2
        pen.multiline_text((middle, top - _GAP // 2), "\n".join(lines), _INK, font, anchor="md", align="center")
    for place, (name, row) in enumerate(zip(rows, pictures, strict=True)):
        y = top + place * (height + _GAP)
        text = "\n".join(_lines(name, _LEFT - 2 * _GAP, font))
        pen.multiline_text((_GAP, y + height // 2), text, _INK, font, anchor="lm")
        for column, picture in enumerate(row):
            if picture is not None:
                sheet.paste(picture.convert("RGB"), (_LEFT + column * (width + _GAP), y))
    return sheet


def _lines(text: str, width: int, font: ImageFont.ImageFont) -> list[str]:
    letters = max(4, int(width / font.getlength("n")))
    return textwrap.wrap(text, letters, max_lines=_MOST_LINES, placeholder=" …") or [""]
