"""What to draw, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dit_prune_viz.checks import brief, check_text, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.defaults import vae_factor
from dit_prune_viz.pipelines.families import class_label, parameters_of
from dit_prune_viz.pipelines.model import Model

MAX_PROMPT = 2000
MAX_STEPS = 200
MAX_SEED = 2**32 - 1
MAX_GUIDANCE = 100.0
MAX_SIZE = 4096


@dataclass(frozen=True)
class Request:
    """One picture to draw; None takes the model's default.

    Attributes:
        prompt: text, or class number or name for a class-conditional model.
        seed: of the starting noise, 0 to 2**32 − 1.
        steps: denoising steps, 1 to 200.
        guidance_scale: 1 is none.
        height: in pixels.
        width: in pixels.
    """

    prompt: str
    seed: int
    steps: int
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None


def check_request(model: Model, request: Request) -> Request:
    """The request with the model's defaults filled in and whole numbers as int.

    Raises:
        UserError: one sentence for the first setting that is missing or out of range.
    """
    _check_prompt(model, request.prompt)
    defaults = model.defaults
    guidance = defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
    if isinstance(guidance, bool) or not isinstance(guidance, (int, float)) or not 0 <= guidance <= MAX_GUIDANCE:
        raise UserError(f"The guidance scale must be a number from 0 to {MAX_GUIDANCE:g}, not {brief(guidance)}.")
    height = defaults.height if request.height is None else request.height
    width = defaults.width if request.width is None else request.width
    return replace(
        request,
        seed=whole(request.seed, "The seed", 0, MAX_SEED),
        steps=whole(request.steps, "The number of steps", 1, MAX_STEPS),
        guidance_scale=float(guidance),
        height=_size(model, height, defaults.height, "height"),
        width=_size(model, width, defaults.width, "width"),
    )


def check_together(requests: Sequence[Request]) -> tuple[Request, ...]:
    """Checked requests for one batch.

    Raises:
        UserError: they differ in more than prompt and seed, or there are none.
    """
    if not requests:
        raise UserError("There is no prompt; write what the pictures should show.")
    if len({replace(request, prompt="", seed=0) for request in requests}) > 1:
        raise UserError("Pictures of one batch must agree in steps, guidance and size.")
    return tuple(requests)


def _check_prompt(model: Model, prompt: str) -> None:
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError("The prompt is empty; write what the picture should show.")
    if len(prompt) > MAX_PROMPT:
        raise UserError(f"The prompt has {len(prompt):,} characters; use at most {MAX_PROMPT:,}.")
    check_text(prompt)
    if "class_labels" in parameters_of(model.pipeline):
        class_label(model.pipeline, prompt)


def _size(model: Model, value: object, default: int, what: str) -> int:
    if value != default and what not in parameters_of(model.pipeline):
        raise UserError(f"This model draws {default} pixels of {what} only, not {brief(value)}.")
    unit = vae_factor(model.pipeline) * _cells_per_token(model)
    size = whole(value, f"The {what}", unit, MAX_SIZE)
    if size % unit:
        raise UserError(f"The {what} must be a multiple of {unit} pixels, not {size}.")
    return size


def _cells_per_token(model: Model) -> int:
    """Latent cells along one side of a token: 2 where the pipeline packs them (FLUX), else the patch size."""
    if hasattr(model.pipeline, "_pack_latents"):
        return 2
    config = model.transformer.config
    patch = config.get("patch_size") or config.get("all_patch_size") or 1
    return patch[-1] if isinstance(patch, (list, tuple)) else patch or 1
