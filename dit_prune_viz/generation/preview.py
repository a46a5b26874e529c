"""A picture from unfinished latents: the clean image the model predicts at this step, decoded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from PIL import Image

from dit_prune_viz.pipelines.defaults import vae_factor
from dit_prune_viz.pipelines.steps import Denoised

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_VARIANCE_PRESERVING = ("DDIM", "DDPM", "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep")


def predicted_clean(scheduler, done: Denoised) -> torch.Tensor:
    """The x0 that the step's model output implies, shaped like the latents; the latents themselves where the sampler's
    parametrisation is not known.

    Flow matching: x0 = x_t − σ_t·v. Variance preserving: x_t = √ᾱ·x0 + √(1−ᾱ)·ε.
    """
    sample, output = done.sample.float(), done.output.float()
    name, kind = type(scheduler).__name__, scheduler.config.get("prediction_type")
    if name.startswith("FlowMatch") or kind == "flow_prediction":
        return sample - float(scheduler.sigmas[done.index - 1]) * output
    if not name.startswith(_VARIANCE_PRESERVING) or kind not in ("epsilon", "v_prediction"):
        return done.latents
    position = round(done.timestep * scheduler.config.num_train_timesteps)
    alpha = float(scheduler.alphas_cumprod[min(position, len(scheduler.alphas_cumprod) - 1)])
    if kind == "v_prediction":
        return alpha**0.5 * sample - (1 - alpha) ** 0.5 * output
    return (sample - (1 - alpha) ** 0.5 * output) / alpha**0.5


def decode(pipeline: DiffusionPipeline, latents: torch.Tensor, height: int, width: int) -> tuple[Image.Image, ...]:
    """The pictures of latents (batch, channels, rows, columns), or of FLUX's packed (batch, tokens, channels).

    Returns:
        Pictures of `height` × `width` pixels; none for latents of another layout (videos, families with their own
        latent statistics), which have no preview.
    """
    if latents.ndim == 3 and _unpacks_like_flux(pipeline):
        latents = pipeline._unpack_latents(latents, height, width, vae_factor(pipeline))
    config = pipeline.vae.config
    scale = config.get("scaling_factor")
    if latents.ndim != 4 or scale is None or config.get("latents_mean") is not None:
        return ()
    latents = latents / scale + (config.get("shift_factor") or 0.0)
    pixels = pipeline.vae.decode(latents.to(pipeline.vae.dtype), return_dict=False)[0]
    values = (pixels.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return tuple(Image.fromarray(picture.numpy()) for picture in values.permute(0, 2, 3, 1))


def _unpacks_like_flux(pipeline: DiffusionPipeline) -> bool:
    unpack = getattr(pipeline, "_unpack_latents", None)
    return unpack is not None and list(inspect.signature(unpack).parameters) == [
        "latents",
        "height",
        "width",
        "vae_scale_factor",
    ]
