"""Clips as strips: frames side by side in one picture, and apart again where a score is of every frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dit_prune_viz.generation.request import Request
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.pipelines.families import described, has_words
from dit_prune_viz.pipelines.model import Model


def strip(frames: Sequence[Image.Image]) -> Image.Image:
    """One picture of a clip's frames side by side."""
    if len(frames) == 1:
        return frames[0]
    whole = Image.new("RGB", (sum(frame.width for frame in frames), frames[0].height))
    for place, frame in enumerate(frames):
        whole.paste(frame, (place * frame.width, 0))
    return whole


def frames_of(image: Image.Image, request: Request) -> list[Image.Image]:
    """The frames of a strip that a checked request drew; the picture itself where it is no clip.

    They are counted in the strip, because pipelines round the number they are asked for to one that fits their latents.
    """
    count = image.width // request.width if request.frames > 1 else 1
    if count < 2:
        return [image]
    width = image.width // count
    return [image.crop((place * width, 0, (place + 1) * width, image.height)) for place in range(count)]


def clip_scores(
    clip: ClipScorer, model: Model, images: Sequence[Image.Image], requests: Sequence[Request]
) -> np.ndarray:
    """As `ClipScorer.score`, of a clip the mean over its frames: of a wide strip CLIP would see the middle alone. Where
    classes are drawn, it is told their names.

    Args:
        clip: what scores.
        model: what drew.
        images: a picture or a strip per request.
        requests: checked.

    Returns:
        100·cos of each picture with its prompt, float64 (n,); NaN for a class without a name, which no words describe.
    """
    apart = [frames_of(image, request) for image, request in zip(images, requests, strict=True)]
    words = [described(model.pipeline, request.prompt) for request in requests]
    prompts = [text for frames, text in zip(apart, words, strict=True) for _ in frames]
    scores = clip.score([frame for frames in apart for frame in frames], prompts)
    ends = np.cumsum([len(frames) for frames in apart])[:-1]
    known = [has_words(model.pipeline, request.prompt) for request in requests]
    parts = zip(np.split(scores, ends), known, strict=True)
    return np.array([part.mean() if named else np.nan for part, named in parts])
