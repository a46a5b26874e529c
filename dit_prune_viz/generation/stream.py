"""Run a pipeline in a thread of its own and hand out its steps while it denoises."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from dit_prune_viz.errors import Cancelled
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.preview import decode, predicted_clean
from dit_prune_viz.generation.request import Request, check_request, check_together
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised
from dit_prune_viz.pruning.pruned_model import PrunedModel


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
    layers: Mapping[str, PrunedLayer] | None = None,
    preview_every: int = 4,
    cancel: threading.Event | None = None,
) -> Generator[Step, None, None]:
    """Draw a picture, yielding every step as it is done; the last Step is final and carries the picture.

    The noise comes from a CPU generator, so one seed gives the same noise dense and pruned and on every device. The
    run holds the model's lock in a thread of its own; a second run waits for it, unless its caller holds the lock.
    Closing the generator stops the run and waits until the model is as it was.

    Args:
        model: the pipeline; its weights are never written.
        request: what to draw; defaults are filled in.
        layers: layer -> pruned layer; None or empty draws with the dense model.
        preview_every: decode a preview every so many steps; 0 never.
        cancel: setting it stops the run at its next step.

    Raises:
        UserError: at once for a bad request; while iterating for layers that do not fit, or too little memory.
        Cancelled: while iterating, after `cancel` was set.
    """
    steps = stream_batch(model, [request], layers=layers, preview_every=preview_every, cancel=cancel)
    return _singly(steps)


def stream_batch(
    model: Model,
    requests: Sequence[Request],
    *,
    layers: Mapping[str, PrunedLayer] | None = None,
    preview_every: int = 4,
    cancel: threading.Event | None = None,
    told: Callable[[int], None] | None = None,
) -> Generator[BatchStep, None, None]:
    """As `stream`, for several pictures that are drawn in one batch.

    Args:
        model: as in `stream`.
        requests: different in prompt and seed only.
        layers: as in `stream`.
        preview_every: as in `stream`.
        cancel: as in `stream`.
        told: called with the steps done after every one, in the run's own thread; may raise `Cancelled`, which stops
            the run then and there.

    Raises:
        UserError: requests that differ in more, or none, and as in `stream`.
        Cancelled: as in `stream`.
    """
    checked = check_together([check_request(model, request) for request in requests])
    return _steps(model, checked, dict(layers or {}), preview_every, cancel or threading.Event(), told)


def generate(model: Model, request: Request, *, pruned: PrunedModel | None = None) -> tuple[Image.Image, torch.Tensor]:
    """Draw one picture.

    Args:
        model: the pipeline; its weights are never written.
        request: what to draw; defaults are filled in.
        pruned: draws with this pruned model of it; None draws with the dense one.

    Returns:
        The finished picture, and its latents (1, …) float32 on the CPU.

    Raises:
        UserError: a bad request, or too little memory.
    """
    *_, last = stream(model, request, layers=pruned.layers if pruned else None, preview_every=0)
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
    layers: Mapping[str, PrunedLayer],
    preview_every: int,
    cancel: threading.Event,
    told: Callable[[int], None] | None,
) -> Generator[BatchStep, None, None]:
    closed = threading.Event()
    results: queue.SimpleQueue[BatchStep | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(_run(model, requests, layers, preview_every, (cancel, closed), results.put, told))
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


def _run(model, requests, layers, preview_every, stops, emit, told) -> BatchStep:
    """The worker's part: the whole run under the lock; emits unfinished steps, returns the finished one."""
    steps = 0
    first = requests[0]

    def on_step(done: Denoised) -> None:
        nonlocal steps
        _stop_if(stops)
        steps = done.steps
        if told:
            told(done.index)
        if done.index == done.steps:
            return
        images = ()
        if preview_every and done.index % preview_every == 0:
            clean = predicted_clean(model.pipeline.scheduler, done)
            images = decode(model.pipeline, clean[: len(requests)], first.height, first.width)
        emit(BatchStep(done.index, done.steps, images, final=False))

    with model.lock.hold(lambda *_: _stop_if(stops)):
        pictures = draw_batch(model, requests, layers=layers, on_step=on_step)
    images = tuple(picture.image for picture in pictures)
    return BatchStep(steps, steps, images, final=True, latents=torch.stack([p.latents for p in pictures]))


def _stop_if(stops: tuple[threading.Event, ...]) -> None:
    if any(event.is_set() for event in stops):
        raise Cancelled("The generation was stopped.")
