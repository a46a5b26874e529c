"""See every denoising step of any pipeline, also of those without a callback: watch its scheduler."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True, eq=False)
class Denoised:
    """One finished denoising step.

    Attributes:
        index: steps done, from 1.
        steps: steps in all, as the scheduler planned them.
        timestep: the step's timestep as a fraction of the training steps, 1 for pure noise.
        output: what the model predicted after guidance, shaped like
        sample: the latents before, and
        latents: the latents after the step; with guidance some pipelines double the batch.
    """

    index: int
    steps: int
    timestep: float
    output: torch.Tensor
    sample: torch.Tensor
    latents: torch.Tensor


def timestep_fraction(scheduler, index: int) -> float:
    """The timestep of step `index` (from 0) as a fraction of the training steps, within 0..1."""
    position = min(index, len(scheduler.timesteps) - 1)
    fraction = float(scheduler.timesteps[position]) / scheduler.config.num_train_timesteps
    return min(max(fraction, 0.0), 1.0)


def planned_steps(scheduler) -> int:
    """How many steps the scheduler will be asked for; that of Sana-Sprint lists the end of the last one as well."""
    return len(scheduler.timesteps) - _is_consistency(scheduler)


def _is_consistency(scheduler) -> bool:
    return type(scheduler).__name__ == "SCMScheduler"


class _Step:
    """The watched step of one scheduler. A copy of the scheduler, which some pipelines make, has its own step again."""

    def __init__(self, call: Callable, scheduler) -> None:
        functools.update_wrapper(self, scheduler.step)  # keeps the signature, which pipelines inspect
        self._call, self._scheduler = call, scheduler

    def __call__(self, *args, **kwargs):
        return self._call(*args, **kwargs)

    def __deepcopy__(self, memo: dict):
        return types.MethodType(type(self._scheduler).step, memo[id(self._scheduler)])


@contextmanager
def watch_steps(
    pipeline: DiffusionPipeline,
    on_step: Callable[[Denoised], None],
    *,
    generator: torch.Generator | None = None,
) -> Iterator[None]:
    """Call `on_step` after every scheduler step of the pipeline inside the block; an exception in it ends the run.

    The wrapper sits on the scheduler instance only and is gone afterwards, whatever happens.

    Args:
        generator: noise for samplers that add some in a step (DDPM, SDE solvers), where the pipeline passes none:
            without it such a run could not be repeated.
    """
    scheduler = pipeline.scheduler
    original = scheduler.step
    was_replaced = "step" in vars(scheduler)
    takes_generator = "generator" in inspect.signature(original).parameters
    index = 0

    def step(model_output, timestep, sample, *args, **kwargs):
        nonlocal index
        if takes_generator and not args and kwargs.get("generator") is None:
            kwargs["generator"] = generator
        result = original(model_output, timestep, sample, *args, **kwargs)
        fraction = timestep_fraction(scheduler, index)
        index += 1
        # Sana-Sprint draws what every step denoises, in units of the data's spread.
        latents = result[1] / scheduler.config.sigma_data if _is_consistency(scheduler) else result[0]
        on_step(Denoised(index, planned_steps(scheduler), fraction, model_output, sample, latents))
        return result

    scheduler.step = _Step(step, scheduler)
    try:
        yield
    finally:
        if was_replaced:
            scheduler.step = original
        else:
            del scheduler.step
