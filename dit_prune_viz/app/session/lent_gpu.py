"""Work on a GPU that a Space on ZeroGPU lends for one call at a time, in another process.

That process is forked from the app at the first call and may serve later ones: it has the models of the moment in which
it was forked, and locks that may be held by threads it does not have. So a call brings everything as plain values,
takes nothing from the app but weights, and hands its steps and results back as plain values.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import fields, replace
from importlib import import_module
from weakref import WeakValueDictionary

import torch

from dit_prune_viz.app.session.jobs import Busy, Jobs, Result
from dit_prune_viz.app.session.model_work import ModelWork
from dit_prune_viz.app.session.plain_values import from_plain, to_plain
from dit_prune_viz.app.session.work_time import WorkTimes
from dit_prune_viz.caching import Cache
from dit_prune_viz.calibration.calibrate import watch
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.checks import first_sentence, unmarked
from dit_prune_viz.disk_cache import DiskCache, content_key
from dit_prune_viz.errors import Cancelled, Progress, UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import BatchStep, stream_batch
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.lock import ModelLock
from dit_prune_viz.pipelines.model import Model, load
from dit_prune_viz.pruning.prune import calibrate_for
from dit_prune_viz.pruning.recipe import Recipe

Lend = Callable[..., Callable]
"""`spaces.GPU`: wraps a function that a GPU is lent to for a duration."""

UNKNOWN_SECONDS, LEAST_SECONDS, MOST_SECONDS = 60, 15, 120
"""What is asked for while nothing is measured, and bounds of it; a visitor's quota is charged for what is asked for."""
MARGIN, OPENING_SECONDS = 1.5, 10
"""What is asked for is so many times the measured time, and so much for moving the weights to the GPU."""
_CACHE_BYTES = 1 << 28


def lent_by_space() -> Lend | None:
    """`spaces.GPU` on a Space that lends GPUs; None anywhere else.

    To be called before torch touches CUDA and while nothing imports gradio, as the package wants it.
    """
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return None
    try:
        return import_module("spaces").GPU  # no dependency: a Space that lends GPUs brings it
    except ImportError:
        return None


class LentGpu(ModelWork):
    """Draws and calibrates on a lent GPU; all else stays on the app's CPU.

    Args:
        lend: `spaces.GPU`.
        times: what work took before, from which durations follow.
        device: where the process that has the GPU computes.
    """

    def __init__(self, lend: Lend, times: WorkTimes, device: str = "cuda") -> None:
        self._times, self._device = times, device
        self._models: WeakValueDictionary[int, Model] = WeakValueDictionary()
        self._own: tuple[int, Model] | None = None  # of the process that has the GPU

        def serve(verb: str, number: int, settings: LoadSettings | None, arguments: tuple, seconds: int) -> Iterator:
            yield from self._serve(verb, number, settings, arguments)

        # Wrapped once and before the app is launched: ZeroGPU looks for it then.
        self._lent = lend(duration=lambda *call: call[-1])(serve)

    def stream(
        self,
        model: Model,
        requests: tuple[Request, ...],
        *,
        layers: Mapping[str, PrunedLayer],
        preview_every: int,
        told: Callable[[int], None],
    ) -> Generator[BatchStep, None, None]:
        """As `stream_batch`. It stops at the next step when it is closed; `told` is called in the caller's thread."""
        first = requests[0]
        units = first.steps * len(requests) * (2 if layers else 1)
        size = first.height, first.width, first.frames
        with model.lock.hold(lambda *_: told(0)):
            steps = self._call("draw", model, (requests, dict(layers), preview_every), units, size)
            try:
                for step in steps:
                    told(step.index)
                    yield step
            finally:
                steps.close()

    def calibrate(
        self, model: Model, recipe: Recipe, progress: Progress | None = None, disk: DiskCache | None = None
    ) -> Calibration:
        """As `calibrate_for`; a GPU is asked for where nobody knows the calibration yet."""
        return calibrate_for(model, recipe, progress, disk, by=self._watch)

    def _watch(self, model: Model, *asked) -> Calibration:
        """As `watch`."""
        *settings, progress = asked
        samples = settings[1]
        with model.lock.hold(progress):
            updates = self._call("calibrate", model, tuple(settings), samples)
            try:
                for update in updates:
                    if isinstance(update, Calibration):
                        return update
                    if progress:
                        progress(update.done, update.total, update.what)
            finally:
                updates.close()
        raise Cancelled

    def _call(self, verb: str, model: Model, arguments: tuple, units: int, *more: object) -> Generator:
        """What the other process hands back, one after another."""
        _ = model.pipeline  # the process forked now has to find it open
        self._models[model.number] = model
        key = content_key("lent seconds", verb, model.fingerprint, str(model.dtype), *more)
        seconds = self._seconds(key, units)
        settings = None if model.settings is None else replace(model.settings, also_prune=model.also_prune)
        begin, last = time.monotonic(), None
        answers = self._lent(verb, model.number, settings, to_plain(arguments), seconds)
        try:
            for kind, value in answers:
                if kind == "refused":
                    raise UserError(value)
                if kind == "began":  # until then the call stood in line for a GPU
                    begin = time.monotonic()
                elif kind == "done":
                    last = value
                else:
                    yield from_plain(value)
        except (UserError, Cancelled):
            raise
        except Exception as error:
            if _was_taken_back(error):  # it took longer than it had asked for
                self._times.put(key, 2 * (self._times.find(key) or UNKNOWN_SECONDS / units))
            sentence = refusal(error, seconds)
            if sentence is None:
                raise
            raise UserError(sentence) from error
        finally:
            answers.close()
        self._times.put(key, (time.monotonic() - begin) / units)
        yield from_plain(last)

    def _seconds(self, key: str, units: int) -> int:
        """How long a GPU is asked for."""
        known = self._times.find(key)
        if known is None:
            return UNKNOWN_SECONDS
        return min(MOST_SECONDS, max(LEAST_SECONDS, math.ceil(OPENING_SECONDS + MARGIN * known * units)))

    # From here on in the process that has the GPU.

    def _serve(self, verb: str, number: int, settings: LoadSettings | None, arguments: tuple) -> Iterator:
        yield "began", None
        # Threads of OpenMP do not survive a fork: a loop shared out among them would wait for ever.
        torch.set_num_threads(1)
        try:
            model = self._here(number, settings)
            if verb == "draw":
                requests, layers, every = from_plain(arguments)
                for step in stream_batch(model, requests, layers=layers, preview_every=every):
                    yield "done" if step.final else "step", to_plain(step)
            else:
                yield from _watching(model, from_plain(arguments))
        except UserError as problem:
            yield "refused", str(problem)

    def _here(self, number: int, settings: LoadSettings | None) -> Model:
        """The app's model on the GPU, with a lock and a cache of its own: the app's may be held for ever here."""
        if self._own is None or self._own[0] != number:
            self._own = None  # there is room for one
            known = self._models.get(number)
            known = None if known is None or known.away else known
            if known is None and settings is None:
                raise UserError("The GPU's process does not know this model; start the app anew.")
            self._own = number, _moved(known or load(settings), self._device)
        return self._own[1]


def refusal(error: Exception, seconds: int) -> str | None:
    """What a person is told when ZeroGPU refuses a call; None for an error of another kind.

    Args:
        error: as the package raises it: gradio's, with a title.
        seconds: that were asked for.
    """
    title = _title(error)
    if not title.startswith("ZeroGPU"):
        return None
    said = first_sentence(Exception(re.sub(r"<[^>]*>", "", str(getattr(error, "message", error)))))
    if "quota" in title or "credits" in title:
        return f"This Space has no GPU time left for you ({unmarked(said)}); try again later, or run the app yourself."
    if "duration" in title:
        return f"The Space lends no GPU for the {seconds} s that this may take; draw fewer steps or pictures."
    if _was_taken_back(error):
        return f"The GPU was taken back before the work was done, which had asked for {seconds} s; try again."
    if "queue" in title or "client" in title:
        return "No GPU was free in time; try again in a minute."
    return None


def _title(error: Exception) -> str:
    return str(getattr(error, "title", ""))


def _was_taken_back(error: Exception) -> bool:
    return _title(error).startswith("ZeroGPU worker") and "aborted" in str(getattr(error, "message", error))


def _watching(model: Model, settings: tuple) -> Iterator:
    for update in Jobs().run("lent", lambda report: watch(model, *settings, report)):
        if isinstance(update, Result):
            yield "done", to_plain(update.value)
        elif isinstance(update, Busy):
            yield "busy", update


def _moved(model: Model, device: str) -> Model:
    own = {one.name: getattr(model, one.name) for one in fields(Model)}
    pipeline = own["pipeline"].to(device)
    where = {"pipeline": pipeline, "device": torch.device(device), "placement": None}
    return Model(**own | where | {"lock": ModelLock(), "cache": Cache(_CACHE_BYTES)})
