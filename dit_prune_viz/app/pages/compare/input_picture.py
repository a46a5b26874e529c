"""The picture that some models start from, as the Compare page shows it: the bundled one, or an upload."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from dit_prune_viz.app.pages.updates import error_message
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.input_picture import open_picture, read_picture


def upload(path: str | None) -> tuple:
    """Updates for `PictureFields.outputs`: the uploaded picture. A bad one is refused, and the one of before stays."""
    if path is None:
        return gr.skip(), gr.skip(), gr.skip()
    try:
        if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
            raise UserError("Upload the picture as a PNG, JPEG or WebP file.")  # not another file of the server
        return show(read_picture(path))
    except UserError as problem:
        raise error_message(problem) from problem


def show(picture: bytes | None) -> tuple:
    """Updates for `PictureFields.outputs`: an upload's bytes, or None for the bundled picture."""
    label = "Starts from: bundled" if picture is None else "Starts from: yours"
    return picture, gr.Image(value=_small(picture), label=label), gr.Button(visible=picture is not None)


def _small(picture: bytes | None) -> Image.Image:
    """Small enough to be shown at once."""
    image = open_picture(picture)
    image.thumbnail((512, 512))
    return image
