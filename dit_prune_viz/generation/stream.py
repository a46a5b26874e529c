"""Run a pipeline in a thread of its own and hand out its steps while it denoises."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from dit_prune_viz.errors import Cancelled
from dit_prune_viz.generation.batch import paint
from dit_prune_viz.generation.preview import decode, predicted_clean
from dit_prune_viz.generation.request import Request, check_request, check_together
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised

if TYPE_CHECKING:
    from dit_prune_viz.masks.pruned_layer import UpdatedWeights

_POLL_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class Step:
    """One denoising step, or the finished picture.

    Attributes:
        index: steps done, from 1; equals `steps` for the last.
        steps: how many there are.
        image: preview of the predicted clean picture, the finished picture, or None where none was decoded.
        final: whether the picture is finished.
        latents: the finished latents, float32 on the CPU, shape (1, …) as the pipeline keeps them; None before.
    """

    index: int
    steps: int
    image: Image.Image | None
    final: bool
    latents: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class BatchStep:
    """One denoising step of several pictures at once, or the finished pictures.

    As `Step`, but images: one per request, or empty where none were decoded; latents: (requests, …).
    """

    index: int
    steps: int
    images: tuple[Image.Image, ...]
    final: bool
    latents: torch.Tensor | None = None


def stream(
    model: Model,
    request: Request,
    *,
    masks: Mapping[str, PackedMask] | None = None,
    updates: Mapping[str, UpdatedWeights] | None = None,
    preview_every: int = 4,
    cancel: threading.Event | None = None,
) -> Generator[Step, None, None]:
    """Draw a picture, yielding every step as it is done; the last Step is final and carries the picture.

    The noise comes from a CPU generator, so one seed gives the same noise dense and pruned and on every device. The
    run holds the model's lock in a thread of its own: a second run waits for it, and the caller must not hold it.
    Closing the generator stops the run and waits until the model is as it was.

    Args:
        model: the pipeline; its weights are never written.
        request: what to draw; defaults are filled in.
        masks: layer -> packed mask; None or empty draws with the dense model.
        updates: layer -> updated weights, see `pruned`; None leaves the kept weights as they are.
        preview_every: decode a preview every so many steps; 0 never.
        cancel: setting it stops the run at its next step.

    Raises:
        UserError: at once for a bad request; while iterating for masks or updates that do not fit, or if memory runs
            out.
        Cancelled: while iterating, after `cancel` was set.
    """
    steps = stream_batch(model, [request], masks=masks, updates=updates, preview_every=preview_every, cancel=cancel)
    return _singly(steps)


def stream_batch(
    model: Model,
    requests: Sequence[Request],
    *,
    masks: Mapping[str, PackedMask] | None = None,
    updates: Mapping[str, UpdatedWeights] | None = None,
    preview_every: int = 4,
    cancel: threading.Event | None = None,
) -> Generator[BatchStep, None, None]:
    """As `stream` for several pictures that differ in prompt and seed only, drawn in one batch. UserError if they
    differ in more, or if there are none."""
    checked = check_together([check_request(model, request) for request in requests])
    sparse = (dict(masks or {}), dict(updates or {}))
    return _steps(model, checked, sparse, preview_every, cancel or threading.Event())


def generate(
    model: Model,
    request: Request,
    *,
    masks: Mapping[str, PackedMask] | None = None,
    updates: Mapping[str, UpdatedWeights] | None = None,
) -> tuple[Image.Image, torch.Tensor]:
    """The finished picture and its latents (1, …) float32 on the CPU; see `stream`."""
    *_, last = stream(model, request, masks=masks, updates=updates, preview_every=0)
    return last.image, last.latents


def _singly(steps: Generator[BatchStep, None, None]) -> Generator[Step, None, None]:
    try:
        for step in steps:
            yield Step(step.index, step.steps, next(iter(step.images), None), step.final, step.latents)
    finally:
        steps.close()


def _steps(
    model: Model,
    requests: tuple[Request, ...],
    sparse: tuple[Mapping[str, PackedMask], Mapping[str, UpdatedWeights]],
    preview_every: int,
    cancel: threading.Event,
) -> Generator[BatchStep, None, None]:
    closed = threading.Event()
    results: queue.SimpleQueue[BatchStep | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(_run(model, requests, sparse, preview_every, (cancel, closed), results.put))
        except BaseException as error:  # handed over: the consumer raises it
            results.put(error)

    worker = threading.Thread(
        target=contextvars.copy_context().run, args=(work,), name="dit-prune-viz-generation", daemon=True
    )
    worker.start()
    try:
        while True:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
            if result.final:
                return
    finally:
        closed.set()
        worker.join()


def _run(model, requests, sparse, preview_every, stops, emit) -> BatchStep:
    """The worker's part: the whole run under the lock; emits unfinished steps, returns the finished one."""
    steps = 0
    first = requests[0]

    def on_step(done: Denoised) -> None:
        nonlocal steps
        _stop_if(stops)
        steps = done.steps
        if done.index == done.steps:
            return
        images = ()
        if preview_every and done.index % preview_every == 0:
            clean = predicted_clean(model.pipeline.scheduler, done)
            images = decode(model.pipeline, clean[: len(requests)], first.height, first.width)
        emit(BatchStep(done.index, done.steps, images, final=False))

    masks, updates = sparse
    with _locked(model, stops):
        paintings = paint(model, requests, masks=masks, updates=updates, on_step=on_step)
    images = tuple(painting.image for painting in paintings)
    return BatchStep(steps, steps, images, final=True, latents=torch.stack([p.latents for p in paintings]))


@contextmanager
def _locked(model: Model, stops: tuple[threading.Event, ...]) -> Iterator[None]:
    """Hold the model's lock, giving up while waiting if the run is stopped."""
    while not model.lock.acquire(timeout=_POLL_SECONDS):
        _stop_if(stops)
    try:
        yield
    finally:
        model.lock.release()


def _stop_if(stops: tuple[threading.Event, ...]) -> None:
    if any(event.is_set() for event in stops):
        raise Cancelled("The generation was stopped.")
