"""Draw pictures in one batch, each from its own noise, dense or pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from dit_prune_viz.errors import UserError
from dit_prune_viz.generation.frames import strip
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.calling import calling
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.families import call_arguments, refusals
from dit_prune_viz.pipelines.input_picture import draws_one
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised, watch_steps


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the finished latents it was decoded from, float32 on the CPU, without the batch dimension."""

    image: Image.Image
    latents: torch.Tensor


def draw_batch(
    model: Model,
    requests: Sequence[Request],
    *,
    layers: Mapping[str, PrunedLayer] | None = None,
    on_step: Callable[[Denoised], None] | None = None,
) -> list[Picture]:
    """Draw pictures in one batch.

    The noise of a picture comes from a CPU generator and depends on its seed alone: it is the same dense and pruned and
    on every device, and the batch changes a picture by rounding only.

    Args:
        model: its lock is held meanwhile.
        requests: checked, and different in prompt and seed only.
        layers: layer → pruned layer; None or empty draws with the dense model.
        on_step: called after every denoising step; an exception ends the run and leaves the model as it was.

    Returns:
        A picture per request.

    Raises:
        UserError: layers that do not fit, too little memory, or several requests for a pipeline that draws one.
    """
    first = requests[0]
    if len(requests) > 1 and draws_one(model.pipeline):
        raise UserError(f"This model draws one picture at a time, not {len(requests)}; give a single prompt.")
    arguments = call_arguments(
        model.pipeline,
        [request.prompt for request in requests],
        steps=first.steps,
        guidance_scale=first.guidance_scale,
        height=first.height,
        width=first.width,
        max_sequence_length=model.defaults.max_sequence_length,
        frames=first.frames,
        picture=first.picture,
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

    masked = running_pruned(model.transformer, layers) if layers else nullcontext()
    watched = watch_steps(model.pipeline, step, generator=noises + spare)
    fitting = telling_of_memory(_too_large(len(requests), model))
    with model.lock.hold(), fitting, _quietly(), calling(model, first.seed), masked, watched, refusals():
        output = model.pipeline(**arguments, generator=noises, output_type="pil")
    images = next((output[name] for name in ("images", "image", "frames") if name in output), ())
    images = [strip(item) if isinstance(item, list) else item for item in images]  # of frames, or of layers
    latents = last.latents[: len(requests)].detach().float().cpu()
    return [Picture(image, latents[place].clone()) for place, image in enumerate(images)]


@contextmanager
def _quietly() -> Iterator[None]:
    """No gradients, which belong to the thread; and no warning where NaN, which a plan may make of a picture, become
    pixels."""
    with torch.no_grad(), np.errstate(invalid="ignore"):
        yield


def _too_large(count: int, model: Model) -> str:
    if count > 1:
        return f"{count} pictures at a time do not fit into the memory of {model.device}; draw fewer at a time."
    return (
        f"The picture does not fit into the memory of {model.device}; draw a smaller one, or load the model with "
        "--placement stream."
    )
