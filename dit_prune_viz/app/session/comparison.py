"""Models draw the same prompts from the same noise: previews while they denoise, scores at the end, a draft before."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.action_log import write_prompts
from dit_prune_viz.app.session.comparison_result import (
    GAIN,
    LEFT,
    MIDDLE,
    RIGHT,
    Comparison,
    Draft,
    Frame,
    Side,
    measure,
)
from dit_prune_viz.app.session.drawn_model import DENSE, WITHOUT, DrawnModel
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Cancelled, Progress, UserError
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request, check_request, check_together
from dit_prune_viz.generation.unread import find_unread
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.metrics.destroyed import destroyed
from dit_prune_viz.pipelines.model import Model

PREVIEWS = 6
MAX_PROMPTS = 4
FEWEST, SHARE = 3, 5
"""A draft has a fifth of the steps, at least three; where that saves nothing worth while, there is none."""


def split_prompts(text: str) -> tuple[str, ...]:
    """The prompts of a text, one per line, without empty lines. UserError for more than four."""
    lines = tuple(line.strip() for line in (text or "").splitlines() if line.strip())
    if len(lines) > MAX_PROMPTS:
        raise UserError(f"There are {len(lines)} prompts, one per line; write at most {MAX_PROMPTS}.")
    return lines or ("",)


def check_prompts(
    model: Model,
    prompts: str | Sequence[str],
    seed: int,
    steps: int,
    frames: int = 1,
    picture: bytes | None = None,
) -> tuple[Request, ...]:
    """A checked request per prompt, all from the same seed. UserError as in `check_request`, and for more than four."""
    prompts = (prompts,) if isinstance(prompts, str) or prompts is None else tuple(prompts)
    drawing = Request("", seed, steps, frames=frames, picture=picture)
    write_prompts(prompts)
    return _checked(model, [replace(drawing, prompt=prompt) for prompt in prompts])


def compare(
    session: Session,
    prompts: str | Sequence[str],
    seed: int,
    steps: int,
    *,
    frames: int = 1,
    picture: bytes | None = None,
    reference: DrawnModel | None = None,
    emit: Callable[[Frame], None] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Draw one to four prompts dense, with A, the `reference`, if there is one, and with the session's masks, B.

    Pictures that were made before come from the cache.

    UserError for a bad request or a session that is not pruned, before any work. `progress` may raise Cancelled: the
    running generation stops, nothing is kept of it.
    """
    model, _, _ = session.need_plan()
    requests = check_prompts(model, prompts, seed, steps, frames, picture)
    right = drawn_model.of_session(session, progress)
    return compare_models(session, right, requests, reference=reference, emit=emit, progress=progress)


def paint_cluster(
    session: Session,
    layer: str,
    cluster: int,
    request: Request | Sequence[Request],
    mode: str = WITHOUT,
    *,
    emit: Callable[[Frame], None] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """What a cluster of a layer paints: the dense picture beside the one without the cluster, or with it alone.

    Args:
        request: what to draw, or up to four requests that differ in the prompt only; defaults are filled in.
        mode: "without" prunes all weights of the cluster and nothing else of the model, "only" prunes all others of
            its layer.

    Raises:
        UserError: a layer without clusters, an unknown cluster or mode, a bad request.
    """
    model = session.need_model()
    right = drawn_model.of_cluster(session, layer, cluster, mode)
    requests = _checked(model, [request] if isinstance(request, Request) else request)
    return compare_models(session, right, requests, emit=emit, progress=progress)


def compare_models(
    session: Session,
    right: DrawnModel,
    requests: tuple[Request, ...],
    *,
    reference: DrawnModel | None = None,
    gain: int = GAIN,
    emit: Callable[[Frame], None] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """As `compare` for any model on the session's dense one, and checked requests."""
    begin = time.perf_counter()
    model = session.model
    same = reference is not None and reference.number == right.number
    compared = {LEFT: DENSE, **({MIDDLE: reference} if reference else {})}
    with model.lock.hold(progress):
        clip = session.store.clip()
        missing = sum(kept_side(session, chosen, requests) is None for chosen in compared.values())
        stages = _Stages(requests, missing + (not same), progress)
        sides: dict[str, Side] = {}
        for side, chosen in {**compared, RIGHT: right}.items():
            found = kept_side(session, chosen, requests) if side != RIGHT or same else None
            if found is None:
                found = draw_side(side, session, chosen, requests, clip, emit, stages)
            elif emit:
                steps = requests[0].steps
                emit(Frame(side, steps, steps, found.images, found.curve))
            if side != RIGHT:
                keep_side(session, chosen, requests, found)
            sides[side] = found if found.name == chosen.name else replace(found, name=chosen.name)
        unread = find_unread(model, [request.prompt for request in requests], clip)
    seconds = time.perf_counter() - begin
    done = measure(sides[LEFT], sides[RIGHT], requests, clip.name, seconds, gain, reference=sides.get(MIDDLE))
    return replace(done, unread=unread)


def draft_steps(steps: int) -> int | None:
    """How many steps a draft has; None where a picture has too few for one."""
    few = max(FEWEST, round(steps / SHARE))
    return few if 2 * few < steps else None


def draw_draft(
    session: Session,
    right: DrawnModel,
    requests: tuple[Request, ...],
    steps: int,
    progress: Progress | None = None,
) -> Draft:
    """Draw checked requests in few steps."""
    few = tuple(replace(request, steps=steps) for request in requests)
    model, stages = session.model, _Stages(few, 1, progress)
    with model.lock.hold(progress):
        told = functools.partial(stages, name=f"draft of {right.name}")
        frames = session.store.work.stream(model, few, layers=right.layers, preview_every=0, told=told)
        for step in frames:
            if step.final:
                return Draft(step.images, steps)
    raise Cancelled("The generation was stopped.")


def keep_side(session: Session, chosen: DrawnModel, requests: tuple[Request, ...], side: Side) -> None:
    """Remember the finished pictures of a model, for comparisons that have it on the left."""
    session.model.cache.put(("side", chosen.number, requests), side)


def kept_side(session: Session, chosen: DrawnModel, requests: tuple[Request, ...]) -> Side | None:
    """The finished pictures of a model where they are remembered."""
    return session.model.cache.find(("side", chosen.number, requests))


def _checked(model: Model, requests: Sequence[Request]) -> tuple[Request, ...]:
    if len(requests) > MAX_PROMPTS:
        raise UserError(f"There are {len(requests)} prompts; write at most {MAX_PROMPTS}.")
    return check_together([check_request(model, request) for request in requests])


class _Stages:
    """One progress over the sides that have to be drawn."""

    def __init__(self, requests: tuple[Request, ...], sides: int, progress: Progress | None) -> None:
        self._steps, self._sides, self._progress = requests[0].steps, sides, progress
        self._noun = "the picture" if len(requests) == 1 else f"{len(requests)} pictures"
        self._before = -1

    def __call__(self, step: int, name: str) -> None:
        if step == 1:
            self._before += 1
        if self._progress:
            done, total = self._before * self._steps + step, self._sides * self._steps
            self._progress(done, total, f"{name[:1].upper()}{name[1:]}: denoising {self._noun}")


def draw_side(
    side: str,
    session: Session,
    chosen: DrawnModel,
    requests: tuple[Request, ...],
    clip: ClipScorer,
    emit: Callable[[Frame], None] | None,
    stages: Callable[[int, str], None],
    previews: int = PREVIEWS,
) -> Side:
    """Draw checked requests with one model on the session's dense one; the caller holds that one's lock.

    `stages` is told every step in the run's thread, with the model's name, and may raise Cancelled, which stops the run
    at once; `emit` gets about so many previews, of the side's name. 0 previews decode and score the finished pictures
    alone.
    """
    begin = time.perf_counter()
    model, steps = session.model, requests[0].steps
    every = max(1, round(steps / previews)) if previews else 0
    curve: list[tuple[int, float]] = []
    told = functools.partial(stages, name=chosen.name)
    frames = session.store.work.stream(model, requests, layers=chosen.layers, preview_every=every, told=told)
    try:
        for step in frames:
            if not step.images:
                continue
            scores = clip_scores(clip, model, step.images, requests)
            curve.append((step.index, mean_clip(scores)))
            if emit:
                emit(Frame(side, step.index, steps, step.images, tuple(curve)))
            if step.final:
                clips = tuple(map(float, scores))
                what = tuple(map(destroyed, step.images, step.latents))
                return Side(chosen.name, step.images, clips, tuple(curve), time.perf_counter() - begin, what)
    finally:
        frames.close()
    raise Cancelled("The generation was stopped.")
