"""Draw many pictures at once, each from its own noise, dense or pruned."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from dit_prune_viz.errors import UserError
from dit_prune_viz.generation import Request, check_request
from dit_prune_viz.masks import PackedMask, pruned
from dit_prune_viz.pipelines import Model
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pipelines.steps import Denoised, watch_steps

_BATCHES = ((10**8, 16), (10**9, 8))
"""Pictures at a time for models below so many parameters; larger ones draw 4."""


@dataclass(frozen=True, eq=False)
class Painting:
    """A picture and the finished latents it was decoded from, float32 on the CPU, without the batch dimension."""

    image: Image.Image
    latents: torch.Tensor


def noise_seed(prompt: str, seed: int) -> int:
    """The seed of a picture's noise: another one for every prompt, whatever set the prompt is drawn with."""
    return (zlib.crc32(prompt.encode()) + seed) % 2**32


def requests_for(model: Model, prompts: Sequence[str], seed: int, drawing: Request) -> tuple[Request, ...]:
    """A checked request per prompt with the settings of `drawing`. UserError as in `check_request`."""
    return tuple(
        check_request(model, replace(drawing, prompt=prompt, seed=noise_seed(prompt, seed))) for prompt in prompts
    )


def default_batch(model: Model) -> int:
    """How many pictures are drawn at a time unless somebody says otherwise."""
    return next((size for limit, size in _BATCHES if model.parameters < limit), 4)


def paint(
    model: Model,
    requests: Sequence[Request],
    *,
    masks: Mapping[str, PackedMask] | None = None,
    updates: Mapping[str, Any] | None = None,
    on_step: Callable[[Denoised], None] | None = None,
) -> list[Painting]:
    """The pictures of checked requests that differ in prompt and seed only, drawn in one batch.

    The noise of a picture depends on its seed alone, so the batch changes a picture by rounding only. The model's lock
    is held meanwhile; an exception from `on_step` ends the run and leaves the model as it was. UserError where the
    batch does not fit into memory.
    """
    first = requests[0]
    arguments = call_arguments(
        model.pipeline,
        [request.prompt for request in requests],
        steps=first.steps,
        guidance_scale=first.guidance_scale,
        height=first.height,
        width=first.width,
        max_sequence_length=model.defaults.max_sequence_length,
    )
    noises = [torch.Generator().manual_seed(request.seed) for request in requests]
    # Pipelines that double their latents under guidance use the first half; the second half needs noise all the same.
    spare = [torch.Generator().manual_seed(request.seed) for request in requests]
    last: Denoised | None = None

    def step(done: Denoised) -> None:
        nonlocal last
        last = done
        if on_step:
            on_step(done)

    masked = pruned(model.transformer, masks, **({"updates": updates} if updates else {})) if masks else nullcontext()
    try:
        with model.lock, torch.no_grad(), masked, watch_steps(model.pipeline, step, generator=noises + spare):
            output = model.pipeline(**arguments, generator=noises, output_type="pil")
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            problem = f"{len(requests)} pictures at a time do not fit into the memory of {model.device}"
            raise UserError(f"{problem}; draw fewer at a time (--batch).") from error
        raise
    images = output.images if "images" in output else [frames[0] for frames in output.frames]
    latents = last.latents[: len(requests)].detach().float().cpu()
    return [Painting(image, latents[place].clone()) for place, image in enumerate(images)]
