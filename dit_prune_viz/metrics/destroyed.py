"""Pictures that a plan has destroyed: a score of them says nothing about the prompt, so they are named instead."""

from __future__ import annotations

import torch
from PIL import Image

NOT_FINITE, BLACK, CONSTANT = "not finite (NaN)", "black picture", "constant picture"
_LEVELS = 2
"""Of 255: what a constant latent becomes when it is decoded and rounded."""


def destroyed(image: Image.Image, latents: torch.Tensor | None = None) -> str:
    """What has become of a picture.

    Args:
        image: finished; a strip of a clip's frames is looked at as a whole.
        latents: that it was decoded from, where they are known.

    Returns:
        NOT_FINITE for latents with NaN or infinite values, BLACK or CONSTANT for a picture of one colour; "" for every
        other picture, however bad.
    """
    if latents is not None and not bool(latents.isfinite().all()):
        return NOT_FINITE
    ends = image.convert("RGB").getextrema()
    if any(high - low > _LEVELS for low, high in ends):
        return ""
    return BLACK if all(high <= _LEVELS for _, high in ends) else CONSTANT


def told(what: str) -> str:
    """In place of a CLIP score: "destroyed: black picture"; "" for a picture that is not destroyed."""
    return f"destroyed: {what}" if what else ""
