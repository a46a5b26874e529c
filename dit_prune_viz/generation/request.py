"""What to draw, checked before anything runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dit_prune_viz.checks import brief, check_text, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.defaults import vae_factor
from dit_prune_viz.pipelines.families import class_label, frames_argument, parameters_of
from dit_prune_viz.pipelines.input_picture import open_picture, wants_picture
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.positions import most_pixels, only_area, only_sizes

MAX_PROMPT = 2000
MAX_STEPS = 200
MAX_SEED = 2**32 - 1
MAX_GUIDANCE = 100.0
MAX_SIZE = 4096
MAX_FRAMES = 257


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
        frames: of a clip, where the model draws clips; it becomes one wide picture, a strip of its frames.
        picture: an image file's bytes, where the model changes a picture; None is the bundled one.
    """

    prompt: str
    seed: int
    steps: int
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    frames: int = 1
    picture: bytes | None = None

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the picture, as JSON values; frames and picture are named where they were chosen."""
        chosen = {**vars(self)}
        if self.frames == 1:
            del chosen["frames"]
        picture = chosen.pop("picture")
        return chosen if picture is None else {**chosen, "picture": hashlib.sha256(picture).hexdigest()}


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
    height = _size(model, height, defaults.height, "height")
    width = _size(model, width, defaults.width, "width")
    area = only_area(model.pipeline)
    if area and height * width != area:
        raise UserError(f"This model draws {area:,} pixels only (such as {_square(area)}), not {width} × {height}.")
    sizes = only_sizes(model.pipeline)
    if sizes and (width, height) not in sizes:
        known = ", ".join(f"{across} × {down}" for across, down in sizes)
        raise UserError(f"This model draws {known} only, not {width} × {height}.")
    _check_picture(model, request.picture)
    return replace(
        request,
        seed=whole(request.seed, "The seed", 0, MAX_SEED),
        steps=whole(request.steps, "The number of steps", 1, MAX_STEPS),
        guidance_scale=float(guidance),
        height=height,
        width=width,
        frames=_frames(model, request.frames),
    )


def check_together(requests: Sequence[Request]) -> tuple[Request, ...]:
    """Checked requests for one batch.

    Raises:
        UserError: they differ in more than prompt and seed, or there are none.
    """
    if not requests:
        raise UserError("There is no prompt; write what the pictures should show.")
    if len({replace(request, prompt="", seed=0) for request in requests}) > 1:
        raise UserError("Pictures of one batch must agree in steps, guidance, size, frames and input picture.")
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
    most = most_pixels(model.pipeline, 0 if what == "height" else 1)
    if most and size > most:
        raise UserError(f"This model has positions for at most {most} pixels of {what}, not {size}; draw smaller.")
    return size


def _frames(model: Model, value: object) -> int:
    frames = whole(value, "The number of frames", 1, MAX_FRAMES)
    if frames > 1 and frames_argument(model.pipeline) is None:
        raise UserError(f"This model draws single pictures, not clips of {frames} frames.")
    return frames


def _check_picture(model: Model, picture: object) -> None:
    if picture is None:
        return
    if not wants_picture(model.pipeline):
        raise UserError("This model draws from a prompt alone; leave the input picture out.")
    if not isinstance(picture, bytes):
        raise UserError(f"The input picture must be the bytes of an image file, not {brief(picture)}.")
    open_picture(picture)


def _square(area: int) -> str:
    side = math.isqrt(area)
    return f"{side} × {area // side}"


def _cells_per_token(model: Model) -> int:
    """Latent cells along one side of a token: 2 where the pipeline packs them (FLUX), else the patch size."""
    if hasattr(model.pipeline, "_pack_latents"):
        return 2
    config = model.transformer.config
    patch = config.get("patch_size") or config.get("all_patch_size") or 1
    return patch[-1] if isinstance(patch, (list, tuple)) else patch or 1
