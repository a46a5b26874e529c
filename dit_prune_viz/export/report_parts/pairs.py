"""Pictures of a report: drawn, scored, encoded, and made small enough."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.report_parts.content import Pair
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.metrics.destroyed import destroyed
from dit_prune_viz.metrics.pictures import psnr, ssim_if_large
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised
from dit_prune_viz.pruning.pruned_model import PrunedModel

MOST = 12
"""Pairs that are shown."""
FEW = 4
"""Prompts that are drawn unless some are given."""
_LONGEST = 1024
"""Pixels of the longer side that is shown, three times as many of a strip of frames."""
_SHORTEST = 64
"""Pixels of the longer side of a picture that is not made smaller, whatever its share."""
_QUALITIES = (90, 70)


def draw_pairs(
    model: Model,
    pruned: PrunedModel,
    prompts: Sequence[str] = (),
    seed: int = 0,
    steps: int | None = None,
    clip: ClipScorer | None = None,
    progress: Progress | None = None,
) -> tuple[Pair, ...]:
    """Draw prompts with the dense and the pruned model from the same noise, one picture at a time.

    Args:
        model: the dense model; its lock is held while a picture is drawn.
        pruned: of that model.
        prompts: a few of the model's own unless given.
        seed: of every prompt's noise.
        steps: the model's default unless given.
        clip: scores the pictures; None leaves CLIP scores out.
        progress: called after every denoising step; may raise `Cancelled`.

    Raises:
        UserError: a bad prompt, seed or number of steps, before anything is drawn; too little memory.
    """
    steps = model.defaults.steps if steps is None else steps
    asked = tuple(prompts) or model.defaults.prompts[:FEW]
    requests = [check_request(model, Request(prompt, seed, steps)) for prompt in asked]
    tell = _Steps(2 * len(requests) * steps, steps, progress)
    pairs = []
    for request in requests:
        images = [
            draw_batch(model, [request], layers=layers, on_step=tell)[0].image for layers in (None, pruned.layers)
        ]
        scores = None
        if clip:
            first, second = map(float, clip_scores(clip, model, images, [request, request]))
            scores = None if math.isnan(first) else (first, second)
        pairs.append(make_pair(*images, request, clip=scores, clip_name=clip.name if clip else ""))
    return tuple(pairs)


class _Steps:
    """One progress over all pictures."""

    def __init__(self, total: int, each: int, progress: Progress | None) -> None:
        self._total, self._each, self._progress, self._pictures = total, each, progress, -1

    def __call__(self, done: Denoised) -> None:
        self._pictures += done.index == 1
        if self._progress:
            step = min(self._total, self._pictures * self._each + done.index)
            self._progress(step, self._total, f"Drawing picture {self._pictures + 1} of the report")


def make_pair(
    dense: Image.Image,
    pruned: Image.Image,
    request: Request,
    *,
    names: tuple[str, str] = ("dense", "pruned"),
    clip: tuple[float, float] | None = None,
    clip_name: str = "",
) -> Pair:
    """Two finished pictures as a pair, with how far they are apart.

    Args:
        dense: a picture, or a strip of a clip's frames.
        pruned: of the same size.
        request: what both were asked for.
        names: of the two sides.
        clip: their CLIP scores, 100·cos each.
        clip_name: of the checkpoint that scored them.

    Raises:
        UserError: the sizes differ.
    """
    apart = psnr(dense, pruned)
    ruined = destroyed(pruned) or destroyed(dense)
    return Pair(
        prompt=request.prompt,
        seed=request.seed,
        steps=request.steps,
        dense=_png(dense),
        pruned=_png(pruned),
        size=dense.size,
        names=names,
        clip=None if ruined else clip,
        clip_name=clip_name,
        destroyed=ruined,
        ssim=ssim_if_large(dense, pruned),
        psnr=apart if math.isfinite(apart) else None,
    )


def bounded(pairs: Sequence[Pair], most: int) -> tuple[tuple[Pair, ...], int]:
    """The first pairs, made small enough to fit together.

    Args:
        pairs: of any size.
        most: bytes for all their pictures together.

    Returns:
        At most `MOST` pairs, and how many of these are not shown as they were drawn: pictures above their share of the
        bytes become WebP.
    """
    shown = tuple(pairs[:MOST])
    share = most // (2 * len(shown)) if shown else 0
    small = tuple(replace(pair, dense=_within(pair.dense, share), pruned=_within(pair.pruned, share)) for pair in shown)
    changed = sum(
        one.dense is not pair.dense or one.pruned is not pair.pruned for one, pair in zip(small, shown, strict=True)
    )
    return small, changed


def media_type(picture: bytes) -> str:
    """What kind of file a picture is.

    Raises:
        UserError: none that a browser shows.
    """
    for start, kind in ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp")):
        if picture.startswith(start):
            return kind
    raise UserError("A report's pictures are PNG, JPEG or WebP files; save them as one of these.")


def _within(picture: bytes, share: int) -> bytes:
    """The picture itself if it has no more bytes than its share, else a WebP that has."""
    if len(picture) <= share:
        return picture
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    longest = 3 * _LONGEST if image.width > 2 * image.height else _LONGEST
    image.thumbnail((longest, _LONGEST))
    while True:
        for quality in _QUALITIES:
            small = _webp(image, quality)
            if len(small) <= share or max(image.size) <= _SHORTEST:
                return small
        shrink = min(0.9, (share / len(small)) ** 0.5)
        size = (max(1, int(image.width * shrink)), max(1, int(image.height * shrink)))
        image = image.resize(size, Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _webp(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
