"""One to four pictures as one, so that the pictures of several prompts are seen, compared and saved together."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

THUMBNAIL = 96
_PLACES = {1: ("",), 2: ("◧", "◨"), 3: ("◰", "◳", "◱"), 4: ("◰", "◳", "◱", "◲")}


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """A picture itself, two side by side, or up to four in two rows; strips one below the other. What lies between them
    is transparent."""
    if len(images) == 1:
        return images[0]
    width, height = images[0].size
    gap = max(2, min(width, height) // 32)
    columns = 1 if is_wide(images) else 2
    rows = -(-len(images) // columns)
    sheet = Image.new("RGBA", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * (width + gap), place // columns * (height + gap)))
    return sheet


def is_wide(images: Sequence[Image.Image]) -> bool:
    """Whether they are strips, such as the frames of a clip side by side, which need the width of the page."""
    width, height = images[0].size
    return width > 2 * height


def places(count: int, wide: bool = False) -> tuple[str, ...]:
    """A sign for each picture's place on a sheet of `count`: ◰ is top left; empty for a single one. Strips, which lie
    one below the other, are numbered from the top."""
    return _PLACES[count] if count == 1 or not wide else tuple(f"{place}." for place in range(1, count + 1))


def thumbnail(images: Sequence[Image.Image], side: int = THUMBNAIL) -> str:
    """The sheet at most so many pixels wide and high, as a data URI."""
    sheet = contact_sheet(images).convert("RGBA")
    sheet.thumbnail((side, side))
    file = io.BytesIO()
    sheet.save(file, "webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
