"""Calibration on the model's own trajectories: denoise prompts, watch randomly drawn transformer inputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import torch

from dit_prune_viz.calibration.collect import Sums, batch_size, watch_inputs
from dit_prune_viz.calibration.draw import Draw, draw_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised, timestep_fraction, watch_steps

_LARGE = 1_000_000_000
_BATCH = 8
_MAX_SAMPLES = 100_000


class _Enough(Exception):
    """Everything of this run has been watched; leaves the pipeline early."""


def calibrate(
    model: Model,
    *,
    samples: int = 128,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    steps: int | None = None,
    bins: int = 10,
    progress: Progress | None = None,
) -> Calibration:
    """Sum the squared inputs of every prunable layer over randomly drawn transformer inputs.

    As in arXiv 2607.00927 (128 inputs at timesteps drawn at random over the whole range, Table 10 and Fig. 6): about
    one prompt per 8 inputs is denoised from its own noise, and of all (prompt, step, guidance half) inputs `samples`
    are drawn without replacement. Only those rows count.

    Args:
        model: stays as it was; its lock is held meanwhile.
        samples: inputs to watch.
        seed: decides prompts, noise and drawn inputs.
        prompts: texts to choose from; None takes the model's own.
        steps: denoising steps of a run; None takes the model's default.
        bins: timestep bins of equal width over 0..1.
        progress: called after every denoising step; may raise `Cancelled`.

    Raises:
        UserError: a number is out of range, no prompt, inputs of a layer that are not finite, too little memory.
    """
    steps = model.defaults.steps if steps is None else steps
    texts = tuple(model.defaults.prompts if prompts is None else prompts)
    samples = whole(samples, "The number of calibration samples", 1, _MAX_SAMPLES)
    steps = whole(steps, "The number of steps", 1, 1000)
    bins = whole(bins, "The number of timestep bins", 1, 1000)
    seed = whole(seed, "The seed", 0, 2**32 - 1)
    if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise UserError("Calibration needs at least one prompt, and none of them empty.")

    start = time.perf_counter()
    sums = Sums(model.layers, bins, model.device)
    try:
        # no_grad, not inference_mode: tensors that a scheduler keeps must stay usable outside.
        with model.lock, torch.no_grad():
            planned, halves = _probe(model, texts[0], steps, seed)
            draw = draw_inputs(samples, prompts=texts, steps=planned, halves=halves, seed=seed)
            timesteps = _watch(model, draw, sums, steps=steps, bins=bins, seed=seed, progress=progress)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise UserError(f"Calibration does not fit into the memory of {model.device}.") from error
        raise
    return Calibration(
        samples=samples,
        seed=seed,
        seconds=time.perf_counter() - start,
        timesteps=tuple(timesteps),
        edges=tuple(index / bins for index in range(bins + 1)),
        sum_squares={name: value.cpu() for name, value in sums.squares.items()},
        tokens=sums.tokens,
    )


def _probe(model: Model, prompt: str, steps: int, seed: int) -> tuple[int, int]:
    """(steps the scheduler plans, transformer inputs per prompt and step), seen in the first step of a run."""
    rows = planned = 0

    def count(module, args, kwargs):
        nonlocal rows
        rows += batch_size(args, kwargs)

    def stop(done: Denoised):
        nonlocal planned
        planned = done.steps
        raise _Enough

    handle = model.transformer.register_forward_pre_hook(count, with_kwargs=True)
    try:
        with watch_steps(model.pipeline, stop):
            _denoise(model, (prompt,), steps, [seed])
    finally:
        handle.remove()
    return planned, rows


def _watch(
    model: Model, draw: Draw, sums: Sums, *, steps: int, bins: int, seed: int, progress: Progress | None
) -> list[float]:
    """Denoise the drawn prompts batch by batch; returns the timestep of each watched input."""
    size = 1 if model.parameters > _LARGE else _BATCH
    runs = sorted(draw.watched)
    batches = [_Batch(model, draw, runs[start : start + size], bins) for start in range(0, len(runs), size)]
    total = sum(batch.length for batch in batches)
    timesteps: list[float] = []
    for batch in batches:
        before = sum(other.step for other in batches)

        def advance(done: Denoised, batch=batch, before=before):
            if batch.advance(done):
                sums.check()  # at once: one step later every layer of the model would be named
            if progress is not None:
                progress(before + batch.step, total, "calibrating")
            if batch.step == batch.length:
                raise _Enough

        noise = torch.Generator().manual_seed(seed)
        with (
            watch_inputs(model.transformer, model.layers, sums, batch.choose),
            watch_steps(model.pipeline, advance, generator=noise),
        ):
            _denoise(model, [draw.prompts[run] for run in batch.runs], steps, [seed + 1 + run for run in batch.runs])
        timesteps += batch.timesteps
    return timesteps


class _Batch:
    """Position of one batch of runs: which step it is at, and how many of the step's rows have passed."""

    def __init__(self, model: Model, draw: Draw, runs: Sequence[int], bins: int):
        self.scheduler, self.runs, self.bins = model.pipeline.scheduler, runs, bins
        self.watched = [draw.watched[run] for run in runs]
        self.length = 1 + max(max(steps) for steps in self.watched)
        self.step = self.seen = 0
        self.timesteps: list[float] = []

    def choose(self, rows: int) -> tuple[list[int], int]:
        """(rows to watch, bin) of a call with that many rows. One step's rows come as all runs of half 0, then all of
        half 1, be it in one call of a doubled batch or in two calls."""
        watched = sorted(
            half * len(self.runs) + place - self.seen
            for place, steps in enumerate(self.watched)
            for half in steps.get(self.step, ())
            if 0 <= half * len(self.runs) + place - self.seen < rows
        )
        self.seen += rows
        timestep = timestep_fraction(self.scheduler, self.step)
        self.timesteps += [timestep] * len(watched)
        return watched, min(int(timestep * self.bins), self.bins - 1)

    def advance(self, done: Denoised) -> bool:
        """The scheduler has finished a step; says whether any of its rows were watched."""
        watched = any(self.step in steps for steps in self.watched)
        self.step, self.seen = done.index, 0
        return watched


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
    with suppress(_Enough):
        model.pipeline(**arguments, generator=generators, output_type="latent")
