"""What decides a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit_prune_viz.checks import check_text, whole
from dit_prune_viz.errors import UserError

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model

MAX_SAMPLES = 100_000

FEW_STEPS = 8
"""Denoising steps of a run of a large model. Its inputs then lie on every call, and not on one call in six as with 50
steps; the masks differ less from those of 50 steps than those of two seeds do (measured, see assets/docs/method.md)."""


@dataclass(frozen=True)
class CalibrationSettings:
    """How a model's inputs are watched, see `calibrate`.

    Attributes:
        samples: transformer inputs to watch.
        seed: decides prompts, noise and drawn inputs.
        steps: denoising steps of a run; None takes the model's default, of a large model at most FEW_STEPS.
        bins: timestep bins of equal width.
        prompts: texts to choose from; None takes the model's own.

    Raises:
        UserError: a number out of range, no prompt, an empty prompt.
    """

    samples: int = 128
    seed: int = 0
    steps: int | None = None
    bins: int = 10
    prompts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "samples", whole(self.samples, "The number of calibration samples", 1, MAX_SAMPLES))
        set_(self, "seed", whole(self.seed, "The seed", 0, 2**32 - 1))
        set_(self, "bins", whole(self.bins, "The number of timestep bins", 1, 1000))
        if self.steps is not None:
            set_(self, "steps", whole(self.steps, "The number of steps", 1, 1000))
        if self.prompts is not None:
            set_(self, "prompts", checked_prompts(self.prompts))


def steps_of_run(model: Model, steps: int | None = None) -> int:
    """The denoising steps of a calibration's runs.

    Args:
        model: to calibrate.
        steps: what was asked for; None decides by the model, see `CalibrationSettings`.

    Raises:
        UserError: a number out of range.
    """
    if steps is None:
        steps = min(model.defaults.steps, FEW_STEPS) if model.large else model.defaults.steps
    return whole(steps, "The number of steps", 1, 1000)


def checked_prompts(prompts: object) -> tuple[str, ...]:
    """Prompts for calibration as a tuple.

    Raises:
        UserError: there is none, or one is no text or empty.
    """
    texts = (prompts,) if isinstance(prompts, str) else tuple(prompts) if isinstance(prompts, list | tuple) else ()
    if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise UserError("Calibration needs at least one prompt, and none of them empty.")
    for text in texts:
        check_text(text, "A prompt for calibration")
    return texts
