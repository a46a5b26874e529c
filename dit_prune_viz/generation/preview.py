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
    """The pictures of latents as a pipeline's sampler keeps them: in cells, in packed tokens, or as a clip.

    Returns:
        Pictures of `height` × `width` pixels, strips of them for clips; none for a layout that is not known, which has
        no preview.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return ()
    if latents.ndim == 3:
        latents = _unpacked(pipeline, latents, height, width)
    cells = None if latents is None else _as_decoded(vae, latents)
    if cells is None:
        return ()
    if hasattr(vae, "bn"):
        cells = pipeline._unpatchify_latents(cells)
    pixels = vae.decode(cells.to(vae.dtype), return_dict=False)[0]
    if pixels.ndim == 5:  # (batch, 3, frames, rows, columns): frames side by side
        pixels = pixels.permute(0, 1, 3, 2, 4).flatten(3)
    values = (pixels.float() / 2 + 0.5).nan_to_num(0).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return tuple(Image.fromarray(picture.numpy()) for picture in values.permute(0, 2, 3, 1))


def _unpacked(pipeline: DiffusionPipeline, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor | None:
    """Tokens (batch, tokens, channels) as cells (batch, channels, …, rows, columns); None for another packing."""
    plain = getattr(pipeline, "_unpack_latents_no_patch", None)  # Bria Fibo's, whose `_unpack_latents` is for others
    unpack = plain or getattr(pipeline, "_unpack_latents", None)
    taken = list(inspect.signature(unpack).parameters) if unpack else []
    sizes = {"height": height, "width": width, "vae_scale_factor": vae_factor(pipeline)}
    sizes["patch_size"] = pipeline.transformer.config.get("patch_size")
    if taken[:3] == ["latents", "height", "width"] and sizes.keys() >= set(taken[1:]):
        return unpack(tokens, **{name: sizes[name] for name in taken[1:]})
    if hasattr(pipeline, "_unpack_latents_with_ids") and hasattr(pipeline, "_unpatchify_latents"):  # FLUX.2
        rows = height // (2 * vae_factor(pipeline))
        # Tokens of a reference picture, if any, follow.
        columns = width // (2 * vae_factor(pipeline))
        return tokens[:, : rows * columns].transpose(1, 2).unflatten(2, (rows, columns))
    return None


def _as_decoded(vae: torch.nn.Module, cells: torch.Tensor) -> torch.Tensor | None:
    """Cells as the autoencoder takes them, with its statistics undone; None where their layout does not fit it."""
    config = vae.config
    channels = config.get("z_dim") or config.get("latent_channels")
    norm = getattr(vae, "bn", None)  # FLUX.2 keeps patches of 2 × 2 normalised
    if norm is not None:
        if cells.ndim != 4 or cells.shape[1] != norm.num_features:
            return None
        spread = torch.sqrt(norm.running_var + config.batch_norm_eps)
        return cells * _per_channel(spread, cells) + _per_channel(norm.running_mean, cells)
    clips = any(isinstance(module, torch.nn.Conv3d) for module in vae.modules()) or "temperal_downsample" in config
    if cells.ndim == 5 and cells.shape[1] != channels and cells.shape[2] == channels:  # CogVideoX: frames come first
        cells = cells.transpose(1, 2)
    shift = config.get("shift_factor") or 0.0
    if cells.ndim == 5 and cells.shape[1] != channels and cells.shape[-1] == channels:
        cells, shift = cells.movedim(-1, 1), 0.0  # Kandinsky 5: channels last, and the shift is left out
    if not clips and cells.ndim == 5 and cells.shape[2] == 1:
        cells = cells.squeeze(2)
    if clips and cells.ndim == 4:
        cells = cells.unsqueeze(2)
    if cells.ndim != 4 + clips or channels not in (None, cells.shape[1]):
        return None
    scale, mean = config.get("scaling_factor"), config.get("latents_mean")
    if mean is not None:
        spread = torch.tensor(config["latents_std"]) / (scale or 1.0)
        return cells * _per_channel(spread, cells) + _per_channel(torch.tensor(mean), cells)
    return None if scale is None else cells / scale + shift


def _per_channel(values: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    return values.to(cells).reshape(1, -1, *[1] * (cells.ndim - 2))
