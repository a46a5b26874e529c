"""Walk the drawn trajectories of a calibration: denoise batch by batch, telling which rows of each call are watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import torch

from dit_prune_viz.calibration.batch_rows import batch_size
from dit_prune_viz.calibration.draw import Draw
from dit_prune_viz.errors import Progress
from dit_prune_viz.pipelines.calling import calling
from dit_prune_viz.pipelines.denoisers import before_calls
from dit_prune_viz.pipelines.families import call_arguments, refusals
from dit_prune_viz.pipelines.input_picture import draws_one
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised, timestep_fraction, watch_steps

_BATCH = 8


Place = tuple[int, int, int]
"""Run, denoising step and half under guidance of a watched input."""


class _Enough(Exception):
    """Everything of this run has been watched; leaves the pipeline early."""


class Batch:
    """Position of one batch of runs: which step it is at, and how many of the step's rows have passed."""

    def __init__(self, model: Model, draw: Draw, runs: Sequence[int], bins: int):
        self.scheduler, self.runs, self.bins = model.pipeline.scheduler, runs, bins
        self.watched = [draw.watched[run] for run in runs]
        self.length = 1 + max(max(steps) for steps in self.watched)
        self.step = self.seen = 0
        self.timesteps: list[float] = []
        self.places: tuple[Place, ...] = ()  # of the rows that were chosen last

    def choose(self, rows: int) -> tuple[list[int], int]:
        """(rows to watch, bin) of a call with that many rows. One step's rows come as all runs of half 0, then all of
        half 1, be it in one call of a doubled batch or in two calls."""
        found = sorted(
            (half * len(self.runs) + place - self.seen, (self.runs[place], self.step, half))
            for place, steps in enumerate(self.watched)
            for half in steps.get(self.step, ())
            if 0 <= half * len(self.runs) + place - self.seen < rows
        )
        watched, self.places = [row for row, _ in found], tuple(place for _, place in found)
        self.seen += rows
        timestep = timestep_fraction(self.scheduler, self.step)
        self.timesteps += [timestep] * len(watched)
        return watched, min(int(timestep * self.bins), self.bins - 1)

    def advance(self, done: Denoised) -> bool:
        """The scheduler has finished a step; says whether any of its rows were watched."""
        watched = any(self.step in steps for steps in self.watched)
        self.step, self.seen = done.index, 0
        return watched


def probe(
    model: Model, prompt: str, steps: int, seed: int, see: Callable[[str, tuple, dict], None] | None = None
) -> tuple[int, int]:
    """(steps the scheduler plans, transformer inputs per prompt and step), seen in the first step of a run.

    `see(denoiser, args, kwargs)`, if given, is shown the transformer's calls of that step.
    """
    rows = planned = 0

    def count(name, args, kwargs):
        nonlocal rows
        rows += batch_size(args, kwargs)
        if see is not None:
            see(name, args, kwargs)

    def stop(done: Denoised):
        nonlocal planned
        planned = done.steps
        raise _Enough

    with before_calls(model.transformer, count), watch_steps(model.pipeline, stop):
        _denoise(model, (prompt,), steps, [seed])
    return planned, rows


def walk(
    model: Model,
    draw: Draw,
    watch: Callable[[Batch], AbstractContextManager],
    *,
    steps: int,
    bins: int,
    seed: int,
    check: Callable[[], None] | None = None,
    progress: Progress | None = None,
    what: str = "calibrating",
) -> list[float]:
    """Denoise the drawn prompts batch by batch, each inside `watch(batch)`; the timestep of each watched input.

    `check` is called after every step with watched rows. The model's lock and `no_grad` are the caller's.
    """
    size = 1 if model.large or draws_one(model.pipeline) else _BATCH
    runs = sorted(draw.watched)
    batches = [Batch(model, draw, runs[start : start + size], bins) for start in range(0, len(runs), size)]
    total = sum(batch.length for batch in batches)
    timesteps: list[float] = []
    for batch in batches:
        before = sum(other.step for other in batches)

        def advance(done: Denoised, batch=batch, before=before):
            if batch.advance(done) and check is not None:
                check()  # at once: one step later every layer of the model would be named
            if progress is not None:
                progress(before + batch.step, total, what)
            if batch.step == batch.length:
                raise _Enough

        noise = torch.Generator().manual_seed(seed)
        with watch(batch), watch_steps(model.pipeline, advance, generator=noise):
            _denoise(model, [draw.prompts[run] for run in batch.runs], steps, [seed + 1 + run for run in batch.runs])
        timesteps += batch.timesteps
    return timesteps


def _denoise(model: Model, prompts: Sequence[str], steps: int, seeds: Sequence[int]) -> None:
    """Run the pipeline without decoding, each prompt from its own noise, until it ends or has seen enough."""
    defaults = model.defaults
    arguments = call_arguments(
        model.pipeline,
        prompts,
        steps=steps,
        guidance_scale=defaults.guidance_scale,
        height=defaults.height,
        width=defaults.width,
        max_sequence_length=defaults.max_sequence_length,
    )
    generators = [torch.Generator().manual_seed(seed % 2**32) for seed in seeds]
    with calling(model, seeds[0]), suppress(_Enough), refusals():
        model.pipeline(**arguments, generator=generators, output_type="latent")
