"""Pipelines that start from a picture: which they are, and what they are given."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from dit_prune_viz.errors import UserError
from dit_prune_viz.resources import BUNDLED_PICTURE

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CHANGES_A_PICTURE = re.compile(
    r"Edit|Img2Img|Inpaint|Fill|Control|Kontext|Refiner|Layered|Image2?(To)?Video|I2V|I2I|ChronoEdit|JoyImage"
)
_DRAWS_ONE = re.compile(r"Qwen\w*(Edit|Layered)|JoyImageEdit|^PRX")
"""Their processors want as many pictures as prompts, or refuse more than one prompt; PRX guides one prompt alone."""
_PICTURES = ("image", "control_image")
_MOST_PIXELS = 64_000_000
_MOST_BYTES = 64 << 20


def wants_picture(pipeline: DiffusionPipeline) -> bool:
    """Whether the pipeline starts from a picture. By its class's name: of many, the arguments say it is optional, and
    they fail without it."""
    kind = type(pipeline)
    parameters = inspect.signature(kind.__call__).parameters
    found = [parameters[name] for name in _PICTURES if name in parameters]
    return bool(found) and (bool(_CHANGES_A_PICTURE.search(kind.__name__)) or found[0].default is found[0].empty)


def draws_one(pipeline: DiffusionPipeline) -> bool:
    """Whether the pipeline takes a single prompt at a time; by its class's name, for its arguments do not say so."""
    return bool(_DRAWS_ONE.search(type(pipeline).__name__))


def open_picture(data: bytes | None) -> Image.Image:
    """An RGB picture from an image file's bytes; None gives the bundled one.

    Raises:
        UserError: no picture, or one that is too large.
    """
    try:
        with Image.open(BUNDLED_PICTURE if data is None else io.BytesIO(data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UserError(f"The picture has {image.width} × {image.height} pixels; give a smaller one.")
            return ImageOps.exif_transpose(image).convert("RGB")
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError("The input picture cannot be read; give a PNG, JPEG or WebP file.") from error


def read_picture(path: str | Path) -> bytes:
    """The bytes of an image file that was looked at.

    Raises:
        UserError: no such file, no picture, or one that is too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise UserError(f"{path.name} has {size >> 20} MB; give a picture of at most {_MOST_BYTES >> 20} MB.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise UserError(f"{path} cannot be read ({reason}); give a PNG, JPEG or WebP file.") from error
    open_picture(data)
    return data


def picture_arguments(pipeline: DiffusionPipeline, data: bytes | None, height: int, width: int) -> dict[str, object]:
    """Arguments that hand over a picture, cut to the size of the one that is drawn; none where none is wanted.

    Where a part of it is painted over, that is all of it. Kontext would choose a size of its own near a megapixel.

    Raises:
        UserError: as in `open_picture`.
    """
    if not wants_picture(pipeline):
        return {}
    picture = ImageOps.fit(open_picture(data), (width, height), Image.Resampling.LANCZOS)
    if getattr(getattr(pipeline, "vae", None), "config", {}).get("input_channels") == 4:  # pictures in layers
        picture = picture.convert("RGBA")
    mask = Image.new("L", picture.size, 255)
    return {
        **dict.fromkeys(_PICTURES, picture),
        "mask_image": mask,
        "max_area": height * width,
        "_auto_resize": False,
    }
