"""What decides a calibration."""

from __future__ import annotations

from dataclasses import dataclass

from dit_prune_viz.checks import check_text, whole
from dit_prune_viz.errors import UserError

MAX_SAMPLES = 100_000


@dataclass(frozen=True)
class CalibrationSettings:
    """How a model's inputs are watched, see `calibrate`.

    Attributes:
        samples: transformer inputs to watch.
        seed: decides prompts, noise and drawn inputs.
        steps: denoising steps of a run; None takes the model's default.
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
