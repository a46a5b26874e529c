"""How each family of pipelines is called: prompts, guidance, size. One table row per family, rules for all others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.input_picture import picture_arguments
from dit_prune_viz.pipelines.prompts import SCENES

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Family:
    """What is particular to one family of pipelines; None leaves a setting to the pipeline's own default.

    Attributes:
        name: short name, e.g. "flux".
        steps: denoising steps, and
        guidance_scale: guidance, as used in arXiv 2607.00927 where the paper covers the family, and
        size: height and width in pixels.
        extra: further keyword arguments of every call.
        negative_prompt: the "empty" prompt of true classifier-free guidance.
        prompts: default prompts, for calibration and as suggestions.
    """

    name: str
    steps: int | None = None
    guidance_scale: float | None = None
    size: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    negative_prompt: str = ""
    prompts: tuple[str, ...] = SCENES


# Binning would silently draw another size than asked for; caption cleaning depends on packages that may be missing.
_PLAIN = {"use_resolution_binning": False, "clean_caption": False}
_GUIDANCE = ("true_cfg_scale", "guidance_scale", "distilled_guidance_scale")
_FRAMES = ("num_frames", "frames", "video_length")

_TABLE = {
    "FluxTransformer2DModel": Family("flux", steps=50, guidance_scale=3.5, size=512),
    "SD3Transformer2DModel": Family("sd3"),
    "PixArtTransformer2DModel": Family("pixart", steps=20, guidance_scale=4.5, extra=_PLAIN),
    "DiTTransformer2DModel": Family(
        "dit", steps=50, guidance_scale=1.5, prompts=tuple(str(label) for label in range(7, 1000, 31))
    ),
    "QwenImageTransformer2DModel": Family("qwenimage", negative_prompt=" "),
}
_SCHNELL = Family("flux", steps=4, guidance_scale=1.0, size=512)


def family_of(pipeline: DiffusionPipeline) -> Family:
    """The table's row for the pipeline's transformer class, or a generic one named after that class.

    A FLUX transformer without a guidance embedding is FLUX.1-schnell unless its folder says otherwise: 4 steps and no
    guidance are its defaults.
    """
    kind = type(pipeline.transformer).__name__
    if kind == "FluxTransformer2DModel" and not _has_guidance_embedding(pipeline):
        return _SCHNELL
    name = kind.split("Transformer")[0].lower() or "generic"
    return _TABLE.get(kind) or Family(name, extra=_PLAIN)


def parameters_of(pipeline: DiffusionPipeline) -> Mapping[str, inspect.Parameter]:
    """The parameters of the pipeline's `__call__`, by name."""
    return inspect.signature(type(pipeline).__call__).parameters


def check_draws(kind: type, name: str) -> None:
    """Refuse a class of pipelines that makes sound or anything else but pictures.

    Raises:
        UserError: that.
    """
    asked = {"height", "num_frames", "num_images_per_prompt", "num_videos_per_prompt", "class_labels", "image", "video"}
    if not asked & inspect.signature(kind.__call__).parameters.keys():
        raise UserError(f"{name} is a {kind.__name__}, which makes no pictures; choose a pipeline that draws some.")


def frames_argument(pipeline: DiffusionPipeline) -> str | None:
    """What the pipeline calls the number of frames of a clip; None where it draws single pictures."""
    return next((name for name in _FRAMES if name in parameters_of(pipeline)), None)


def guidance_argument(pipeline: DiffusionPipeline) -> str:
    """What the pipeline calls its guidance scale."""
    if uses_true_guidance(pipeline):
        return "true_cfg_scale"
    return next((name for name in _GUIDANCE[1:] if name in parameters_of(pipeline)), "guidance_scale")


def uses_true_guidance(pipeline: DiffusionPipeline) -> bool:
    """Whether guidance means a second pass with a negative prompt, called `true_cfg_scale` (undistilled FLUX, Qwen)."""
    return "true_cfg_scale" in parameters_of(pipeline) and not _has_guidance_embedding(pipeline)


def call_arguments(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance_scale: float,
    height: int,
    width: int,
    max_sequence_length: int | None = None,
    frames: int = 1,
    picture: bytes | None = None,
) -> dict[str, object]:
    """Keyword arguments that make the pipeline draw one picture per prompt; generator and output type are the caller's.

    Args:
        prompts: texts; for a class-conditional DiT class numbers or ImageNet names.
        steps: denoising steps.
        guidance_scale: classifier-free or embedded guidance, whatever the family has; 1 is none.
        height: in pixels, like `width`; left out where the pipeline draws one size only.
        max_sequence_length: text tokens; None leaves the pipeline's own default.
        frames: of a clip, where the pipeline draws clips.
        picture: an image file for a pipeline that changes a picture; None is the bundled one.

    Raises:
        UserError: a class-conditional pipeline does not know a prompt's class, or the picture cannot be read.
    """
    accepted, family = parameters_of(pipeline), family_of(pipeline)
    arguments: dict[str, object] = {**family.extra, "num_inference_steps": steps, "height": height, "width": width}
    if max_sequence_length is not None:
        arguments["max_sequence_length"] = max_sequence_length
    arguments |= dict.fromkeys(_FRAMES, frames)
    arguments |= picture_arguments(pipeline, picture, height, width)
    if "class_labels" in accepted:
        arguments["class_labels"] = [class_label(pipeline, prompt) for prompt in prompts]
    else:
        arguments["prompt"] = list(prompts)
    if not uses_true_guidance(pipeline):
        arguments[guidance_argument(pipeline)] = guidance_scale
        arguments["guidance_schedule"] = None  # Ideogram's guidance for every step, in the place of the scale
    elif guidance_scale > 1:
        arguments["true_cfg_scale"] = guidance_scale
        arguments["negative_prompt"] = [family.negative_prompt] * len(prompts)
    if steps != 2:
        arguments["intermediate_timesteps"] = None  # of Sana-Sprint, for two steps only
    return {name: value for name, value in arguments.items() if name in accepted}


def class_label(pipeline: DiffusionPipeline, prompt: str) -> int:
    """The class number that a prompt means: a number itself, or an ImageNet name the pipeline lists (any case).

    Raises:
        UserError: neither of them.
    """
    classes = pipeline.transformer.config.num_embeds_ada_norm
    text = prompt.strip().lower()
    if text.isdecimal() and int(text) < classes:
        return int(text)
    names = {name.lower(): label for name, label in _labels(pipeline).items()}
    if text in names:
        return names[text]
    known = f" or a class name such as {next(iter(names))!r}" if names else ""
    raise UserError(f"This model draws classes, not texts: use a class number from 0 to {classes - 1}{known}.")


def draws_classes(pipeline: DiffusionPipeline) -> bool:
    """Whether the pipeline draws classes and not texts."""
    return "class_labels" in parameters_of(pipeline)


def described(pipeline: DiffusionPipeline, prompt: str) -> str:
    """The words of what a prompt asks for: of a class number its name, where the pipeline lists names."""
    if not draws_classes(pipeline):
        return prompt
    label = class_label(pipeline, prompt)
    return next((name for name, number in _labels(pipeline).items() if number == label), prompt)


def has_words(pipeline: DiffusionPipeline, prompt: str) -> bool:
    """Whether there are words for what a prompt asks for, which a CLIP can score: not for a class without a name."""
    return not draws_classes(pipeline) or class_label(pipeline, prompt) in _labels(pipeline).values()


def _labels(pipeline: DiffusionPipeline) -> Mapping[str, int]:
    """Name → number of the classes that the pipeline lists."""
    return getattr(pipeline, "labels", None) or {}


def _has_guidance_embedding(pipeline: DiffusionPipeline) -> bool:
    return bool(pipeline.transformer.config.get("guidance_embeds", False))


@contextmanager
def refusals() -> Iterator[None]:
    """Around a call of a pipeline: its own refusal of its arguments becomes one sentence, a UserError."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"The pipeline refuses these settings: {reason}") from error
