"""Pictures laid out as a table in one picture, with names along both sides, notes under each and a footer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from dit_prune_viz.errors import UserError

_GAP, _SIZE = 8, 15
_LEFT = 160
"""Pixels for the names of the rows."""
_MOST_LINES, _MOST_FOOTER = 6, 40
_INK, _PAPER = "#222222", "white"
_MOST_PIXELS = 40_000_000
"""Of the pictures of a sheet together; larger ones are made smaller."""
_NARROWEST = 128
"""Pixels of a picture that has a note below it; narrower ones are shown several times as large."""
_LARGEST_TEXT = 40
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msgothic.ttc",
    "YuGothM.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)
"""Of the machine, tried where Pillow's own font lacks a character."""
_SIGNS = str.maketrans("×−–", "x--")
"""Signs that Pillow's own font lacks, and what stands for them."""
_LACKING = "Boxes stand for characters that no font of this machine has; the file's own text holds them."


def picture_grid(
    pictures: Sequence[Sequence[Image.Image | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    notes: Sequence[Sequence[str]] | None = None,
    footer: Sequence[str] = (),
) -> Image.Image:
    """Lay pictures out as a table.

    Pillow's own font has the letters of English. Text in another script is drawn with a font of the machine that has
    it, if there is one, and else as boxes, which the sheet says.

    Args:
        pictures: a row of them per prompt; None leaves a place empty.
        rows: prompts, or whatever a row has in common.
        columns: settings, or whatever a column has in common.
        notes: a text below each picture, such as its scores, in one line or several. With notes the text grows with
            the pictures, small pictures are enlarged by a whole number, and large ones shrink to 40 million pixels
            together.
        footer: paragraphs below all pictures.

    Raises:
        UserError: no pictures, or rows and names that do not fit together.
    """
    there = [picture for row in pictures for picture in row if picture is not None]
    if not there or len(pictures) != len(rows) or any(len(row) != len(columns) for row in pictures):
        raise UserError("A grid needs a picture or a gap for every row and column; draw the pictures first.")
    footer = list(footer)
    if notes is not None:
        cells = len(rows) * len(columns)
        pictures, scaled = _scaled(pictures, there, cells)
        there = [picture for row in pictures for picture in row if picture is not None]
        footer += [scaled] if scaled else []
    return _Sheet(pictures, rows, columns, notes, footer, max(one.width for one in there)).draw()


class _Sheet:
    """A sheet's measures and text."""

    def __init__(self, pictures, rows, columns, notes, footer, width: int) -> None:
        self._pictures, self._width = pictures, width
        self._height = max(one.height for row in pictures for one in row if one is not None)
        size = _SIZE if notes is None else min(_LARGEST_TEXT, max(_SIZE, width // 26))
        texts = [*rows, *columns, *footer, *(note for row in notes or () for note in row)]
        self._font, self._signs, lacking = _font_for("".join(texts), size)
        footer = [*footer, _LACKING] if lacking else footer
        self._line, self._left = size + 3 + size // 8, _LEFT * size // _SIZE
        self._heads = [self._lines(name, width) for name in columns]
        most = _MOST_LINES if notes is None else max(2 * _MOST_LINES, self._height // self._line)
        self._names = [self._lines(name, self._left - 2 * _GAP, most) for name in rows]
        self._notes = [[self._lines(note, width) for note in row] for row in notes or ()]
        self._top = _GAP + max(map(len, self._heads)) * self._line
        self._tall = [self._height] * len(rows)
        if notes is not None:
            below = [max(map(len, row)) * self._line for row in self._notes]
            names = [len(lines) * self._line for lines in self._names]
            self._tall = [max(self._height + note, name) for note, name in zip(below, names, strict=True)]
        self._across = self._left + len(columns) * (width + _GAP)
        self._footer = [line for text in footer for line in self._lines(text, self._across - 2 * _GAP, _MOST_FOOTER)]

    def draw(self) -> Image.Image:
        foot = _GAP + len(self._footer) * self._line if self._footer else 0
        high = self._top + sum(tall + _GAP for tall in self._tall) + foot
        sheet = Image.new("RGB", (self._across, high), _PAPER)
        pen = ImageDraw.Draw(sheet)
        for place, lines in enumerate(self._heads):
            middle = self._left + place * (self._width + _GAP) + self._width // 2
            self._write(pen, (middle, self._top - _GAP // 2 - len(lines) * self._line), lines, "ma")
        y = self._top
        for row, tall in enumerate(self._tall):
            names = self._names[row]
            beside = self._height if len(names) * self._line <= self._height else tall
            self._write(pen, (_GAP, y + (beside - len(names) * self._line) // 2), names, "la")
            for column, picture in enumerate(self._pictures[row]):
                x = self._left + column * (self._width + _GAP)
                if picture is not None:
                    sheet.paste(picture.convert("RGB"), (x, y))
                if picture is not None and self._notes:
                    self._write(pen, (x + self._width // 2, y + self._height + 2), self._notes[row][column], "ma")
            y += tall + _GAP
        self._write(pen, (_GAP, y), self._footer, "la")
        return sheet

    def _write(self, pen: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], anchor: str) -> None:
        x, y = place
        for number, line in enumerate(lines):
            pen.text((x, y + number * self._line), line, _INK, self._font, anchor=anchor)

    def _lines(self, text: str, width: int, most: int = _MOST_LINES) -> list[str]:
        """The text in lines that fit, cut after so many of them."""
        parts = text.translate(self._signs).splitlines()
        lines = [line for part in parts for line in _wrapped(part, width, self._font)]
        if len(lines) > most:
            last = lines[most - 1]
            while last and self._font.getlength(f"{last} …") > width:
                last = last[:-1]
            lines = [*lines[: most - 1], f"{last.rstrip()} …"]
        return lines or [""]


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> Iterator[str]:
    """Lines of whole words, and of parts of words that are wider than a line, as those of Chinese and Japanese are."""
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width:
                yield line
                line = ""
            line += letter
    if line:
        yield line


def _scaled(pictures, there: Sequence[Image.Image], cells: int) -> tuple[list[list[Image.Image | None]], str]:
    """The pictures as large as a sheet shows them, and a sentence where that is not as they were drawn."""
    width, height = max(one.width for one in there), max(one.height for one in there)
    share = math.sqrt(_MOST_PIXELS / (cells * width * height))
    times = -(-_NARROWEST // width)
    if share < 1:
        how, scale, words = Image.Resampling.LANCZOS, share, f"Pictures are shown at {100 * share:.0f} % of their size."
    elif times > 1:
        how, scale, words = Image.Resampling.NEAREST, times, f"Pictures are shown {times} times as large as drawn."
    else:
        return [list(row) for row in pictures], ""

    def resized(one: Image.Image) -> Image.Image:
        size = max(1, round(one.width * scale)), max(1, round(one.height * scale))
        return one.convert("RGB").resize(size, how)

    return [[None if one is None else resized(one) for one in row] for row in pictures], words


def _font_for(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, Mapping[int, int], bool]:
    """A font for all of a text, signs to be exchanged, and whether it still lacks some of the characters.

    It is Pillow's own, so that a sheet looks the same everywhere, or the machine's font that lacks least.
    """
    own = ImageFont.load_default(size)
    best, signs, least = own, _SIGNS, len(_lacking(text.translate(_SIGNS), own))
    for name in _FONTS if least else ():
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        lacks = len(_lacking(text, font))
        if lacks < least:
            best, signs, least = font, {}, lacks
        if not least:
            break
    return best, signs, least > 0


def _lacking(text: Iterable[str], font: ImageFont.FreeTypeFont) -> set[str]:
    """The characters that the font draws as it draws those that are none."""
    none = _drawn("\uffff", font)
    seen = {one for one in text if one.isprintable() and not one.isspace() and not "\ufe00" <= one <= "\ufe0f"}
    return {one for one in seen if _drawn(one, font) == none}


def _drawn(letter: str, font: ImageFont.FreeTypeFont) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
