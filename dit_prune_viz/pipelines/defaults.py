"""Settings a model starts with: its folder's own file, else a known model's, its family's, or the pipeline's."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.families import family_of, guidance_argument, parameters_of
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DEFAULTS_FILE = "generation_defaults.json"
_FALLBACK_SIZE = 512


@dataclass(frozen=True)
class Defaults:
    """Settings of a generation.

    Attributes:
        height: picture height in pixels.
        width: picture width in pixels.
        steps: denoising steps.
        guidance_scale: 1 is none.
        max_sequence_length: text tokens; None is the pipeline's own default.
        prompts: for calibration and as suggestions; class numbers for a class-conditional model.
    """

    height: int
    width: int
    steps: int
    guidance_scale: float
    max_sequence_length: int | None
    prompts: tuple[str, ...]


def defaults_for(pipeline: DiffusionPipeline, folder: Path, source: str = "") -> Defaults:
    """The defaults of a loaded pipeline; `generation_defaults.json` in its folder overrides any of them.

    Args:
        pipeline: as it was loaded.
        folder: that holds it.
        source: what was asked for; the hub id of a known model brings that model's steps, guidance and size.

    Raises:
        UserError: that file is not JSON, or a value in it has the wrong type.
    """
    base = _known_defaults(_family_defaults(pipeline), source)
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return base
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{DEFAULTS_FILE} of this model is not a JSON object; correct or remove it.")
    known = {field.name for field in fields(Defaults)}
    for name in known & values.keys():
        if not _VALID[name](values[name]):
            raise UserError(f"{DEFAULTS_FILE} of this model: {name} cannot be {values[name]!r}; correct or remove it.")
    if "prompts" in values:
        values["prompts"] = tuple(values["prompts"])
    return replace(base, **{name: values[name] for name in known & values.keys()})


_FACTORS = (
    "vae_scale_factor",
    "vae_scale_factor_spatial",
    "vae_spatial_scale_factor",
    "vae_spatial_compression_ratio",
)


def vae_factor(pipeline: DiffusionPipeline) -> int:
    """Pixels per latent cell along one side (8 for most autoencoders), under whichever name the pipeline has it."""
    for name in _FACTORS:
        factor = getattr(pipeline, name, None)
        if isinstance(factor, int) and factor > 0:
            return factor
    channels = pipeline.vae.config.get("block_out_channels")
    return 2 ** (len(channels) - 1) if channels else 8


def _known_defaults(base: Defaults, source: str) -> Defaults:
    known = KNOWN_MODELS.get(source)
    if known is None:
        return base
    guidance = base.guidance_scale if known.guidance_scale is None else known.guidance_scale
    height, width = known.size
    return replace(base, steps=known.steps, guidance_scale=guidance, height=height, width=width)


def _family_defaults(pipeline: DiffusionPipeline) -> Defaults:
    family, parameters = family_of(pipeline), parameters_of(pipeline)

    def own(name: str, fallback):
        value = parameters[name].default if name in parameters else None
        return fallback if value is None or value is parameters[name].empty else value

    return Defaults(
        height=family.size or own("height", None) or _native_size(pipeline, 0),
        width=family.size or own("width", None) or _native_size(pipeline, 1),
        steps=family.steps or own("num_inference_steps", 50),
        guidance_scale=float(family.guidance_scale or own(guidance_argument(pipeline), 1.0)),
        max_sequence_length=None,
        prompts=family.prompts,
    )


def _native_size(pipeline: DiffusionPipeline, side: int) -> int:
    """The size in pixels a pipeline was trained for, as far as it tells."""
    cells = getattr(pipeline, "default_sample_size", None) or pipeline.transformer.config.get("sample_size")
    if isinstance(cells, (list, tuple)):
        cells = cells[side]
    return cells * vae_factor(pipeline) if isinstance(cells, int) else _FALLBACK_SIZE


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text for text in value)


_VALID = {
    "height": _count,
    "width": _count,
    "steps": _count,
    "guidance_scale": _number,
    "max_sequence_length": lambda value: value is None or _count(value),
    "prompts": _texts,
}
