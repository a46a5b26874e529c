"""Dense against pruned from the same noise: frames while both denoise, scores at the end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL.Image import Image

from dit_prune_viz.errors import Cancelled, Progress
from dit_prune_viz.generation import Request, check_request, stream
from dit_prune_viz.metrics import ClipScorer, difference, psnr, ssim
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.updating import update

PREVIEWS = 6


@dataclass(frozen=True, eq=False)
class Frame:
    """A look at one side on its way: curve holds its (step, CLIP score) pairs up to now."""

    side: str
    step: int
    steps: int
    image: Image
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished side; seconds is the time its generation took, also when it comes from the cache."""

    image: Image
    curve: tuple[tuple[int, float], ...]
    seconds: float

    @property
    def clip(self) -> float:
        return self.curve[-1][1]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both pictures and their scores. psnr is None where the pictures are identical (it would be infinite)."""

    request: Request
    clip_name: str
    dense: Picture
    pruned: Picture
    difference: Image
    ssim: float
    psnr: float | None
    seconds: float

    @property
    def delta(self) -> float:
        return self.pruned.clip - self.dense.clip


def compare(
    session: Session,
    prompt: str,
    seed: int,
    steps: int,
    *,
    emit: Callable[[Frame], None] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Generate both pictures, the pruned one with the session's masks and weight update, the dense one from the cache
    where it was made before.

    UserError for a bad request or a session that is not pruned, before any work. `progress` may raise Cancelled: the
    running generation stops, nothing is kept of it.
    """
    model, _, _ = session.need_plan()
    request = check_request(model, Request(prompt=prompt, seed=seed, steps=steps))
    workspace = session.workspace
    begin = time.perf_counter()
    with workspace.turn(progress):
        clip = workspace.clip()
        key = (model.number, request)
        dense = workspace.pictures.find(key)
        if dense is None:
            dense = _paint("dense", session, request, None, clip, emit, progress)
            workspace.pictures.put(key, dense)
        elif emit:
            emit(Frame("dense", request.steps, request.steps, dense.image, dense.curve))
        updates = update(session, progress)
        pruned = _paint("pruned", session, request, session.masks, clip, emit, progress, updates)
    distance = psnr(dense.image, pruned.image)
    return Comparison(
        request=request,
        clip_name=clip.name,
        dense=dense,
        pruned=pruned,
        difference=difference(dense.image, pruned.image),
        ssim=ssim(dense.image, pruned.image),
        psnr=distance if math.isfinite(distance) else None,
        seconds=time.perf_counter() - begin,
    )


def _paint(side, session, request, masks, clip: ClipScorer, emit, progress: Progress | None, updates=None) -> Picture:
    begin = time.perf_counter()
    offset = 0 if side == "dense" else request.steps
    every = max(1, round(request.steps / PREVIEWS))
    cancel = threading.Event()
    curve: list[tuple[int, float]] = []
    frames = stream(session.model, request, masks=masks, updates=updates, preview_every=every, cancel=cancel)
    try:
        for step in frames:
            if progress:
                progress(offset + step.index, 2 * request.steps, f"{side.capitalize()} picture, denoising")
            if step.image is not None:
                score = float(clip.score([step.image], [request.prompt])[0])
                curve.append((step.index, score))
                if emit:
                    emit(Frame(side, step.index, request.steps, step.image, tuple(curve)))
            if step.final:
                return Picture(step.image, tuple(curve), time.perf_counter() - begin)
    finally:
        cancel.set()
        frames.close()
    raise Cancelled("The generation was stopped.")
