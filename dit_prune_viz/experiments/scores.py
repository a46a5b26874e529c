"""The scores of a batch of pictures against the dense model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dit_prune_viz.experiments.results import SCORES
from dit_prune_viz.generation.batch import Picture
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.metrics.destroyed import destroyed
from dit_prune_viz.metrics.pictures import psnr, ssim
from dit_prune_viz.pipelines.model import Model

Scores = dict[str, list[float | None]]


@dataclass(frozen=True)
class Scored:
    """scores: name → a value per picture, see `SCORES`. destroyed: what each picture has become, "" for a picture."""

    scores: Scores
    destroyed: list[str]


def score(
    model: Model,
    dense: Sequence[Picture],
    drawn: Sequence[Picture],
    requests: Sequence[Request],
    clip: ClipScorer | None,
) -> Scored:
    """Every picture's scores.

    No CLIP scores without a CLIP, and none of a picture of a class that has no name. Of a clip, the CLIP score is the
    mean over its frames; the other scores are of all its frames together.
    """
    pairs = [(a, b) for a, b in zip(dense, drawn, strict=True)]
    similar = [math.nan] * len(pairs)
    if clip:
        similar = clip_scores(clip, model, [picture.image for picture in drawn], requests)
    scores = {
        "clip": [_finite(float(value)) for value in similar],
        "ssim": [_finite(ssim(a.image, b.image)) for a, b in pairs],
        "psnr": [_finite(psnr(a.image, b.image)) for a, b in pairs],
        "latent_mse": [_finite(float((a.latents - b.latents).double().square().mean())) for a, b in pairs],
    }
    return Scored(scores, [destroyed(picture.image, picture.latents) for picture in drawn])


def joined(parts: Sequence[Scored]) -> Scored:
    """The scores of several batches, one after another."""
    scores = {name: [value for part in parts for value in part.scores[name]] for name in SCORES}
    return Scored(scores, [what for part in parts for what in part.destroyed])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
