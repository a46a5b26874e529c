"""One to four pictures as one, so that the pictures of several prompts are seen, compared and saved together."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

THUMBNAIL = 96
_PLACES = {1: ("",), 2: ("◧", "◨"), 3: ("◰", "◳", "◱"), 4: ("◰", "◳", "◱", "◲")}


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """A picture itself, two side by side, or up to four in two rows; what lies between them is transparent."""
    if len(images) == 1:
        return images[0]
    width, height = images[0].size
    gap = max(2, width // 32)
    rows = -(-len(images) // 2)
    sheet = Image.new("RGBA", (2 * width + gap, rows * (height + gap) - gap))
    for place, image in enumerate(images):
        sheet.paste(image, (place % 2 * (width + gap), place // 2 * (height + gap)))
    return sheet


def places(count: int) -> tuple[str, ...]:
    """A sign for each picture's place on a sheet of `count`: ◰ is top left; empty for a single one."""
    return _PLACES[count]


def thumbnail(images: Sequence[Image.Image]) -> str:
    """The sheet at most 96 pixels wide and high, as a data URI."""
    sheet = contact_sheet(images).convert("RGBA")
    sheet.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    sheet.save(file, "webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
