"""Train the diffusion transformer and its text encoders: rectified flow on the latents of the frozen autoencoder.

x_t = (1−t)·x0 + t·noise and the model predicts noise − x0; t is logit-normal with a uniform share; one caption in
ten is empty for classifier-free guidance. Muon moves the matrices of attention and MLP, AdamW everything else. The
averaged weights are what `export.py` writes. Killed at any point, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import os
import random
import time

import torch
from common import (
    EMA,
    Log,
    Mean,
    arguments,
    learning_rate,
    load_checkpoint,
    load_pictures,
    load_weights,
    moments,
    prefixed,
    restore_moments,
    save_checkpoint,
    seed_everything,
    without_prefix,
    work_dir,
)
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from train_text import TOKENS, WIDTH, TextEncoders, caption
from train_text import build as build_text

GRID = 8  # latent tokens per side: 16×16 latents, packed 2×2


def build_transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=3,
        num_single_layers=6,
        attention_head_dim=64,
        num_attention_heads=5,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(16, 24, 24),
    )


def start_modulation_at_zero(transformer: FluxTransformer2DModel) -> None:
    """adaLN-Zero: every block begins as the identity."""
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and "norm" in name and name.endswith("linear"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)


def packed_latents(autoencoder, pictures: torch.Tensor) -> torch.Tensor:
    """Normalised latents of every picture, packed as FluxPipeline packs them: (n, 64 tokens, 64)."""
    from train_autoencoder import encode_all

    z = encode_all(autoencoder, pictures)
    z = (z - z.mean()) / z.std()
    return FluxPipeline._pack_latents(z, *z.shape[:2], *z.shape[2:])


def is_hidden_matrix(name: str, value: torch.Tensor) -> bool:
    return value.ndim == 2 and "blocks." in name and "norm" not in name


class Trainer(nn.Module):
    """Everything that learns in this stage, under the names of the checkpoint."""

    def __init__(self, records: list[dict]):
        super().__init__()
        clip_tok, t5_tok, clip, t5 = build_text(records)
        self.transformer, self.clip, self.t5 = build_transformer(), clip, t5
        self.text = [TextEncoders(clip_tok, t5_tok, clip, t5)]  # in a list: not registered twice
        self.register_buffer("image_ids", FluxPipeline._prepare_latent_image_ids(1, GRID, GRID, "cpu", torch.float32))
        self.register_buffer("text_ids", torch.zeros(TOKENS, 3))

    def forward(self, ids: tuple[torch.Tensor, torch.Tensor], x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor):
        pooled, tokens = self.text[0](*ids)
        x = torch.lerp(x0, noise, t[:, None, None])
        velocity = self.transformer(
            x,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=t,
            img_ids=self.image_ids,
            txt_ids=self.text_ids,
            return_dict=False,
        )[0]
        return (velocity.float() - (noise - x0)).square().mean((1, 2))


def draw_timesteps(count: int, rng: torch.Generator, uniform_share: float = 0.2) -> torch.Tensor:
    t = torch.sigmoid(torch.randn(count, generator=rng))
    uniform = torch.rand(count, generator=rng)
    return torch.where(torch.rand(count, generator=rng) < uniform_share, uniform, t).clamp(1e-3, 1.0)


def main() -> None:
    from train_autoencoder import build as build_autoencoder

    args = arguments(
        __doc__,
        steps=5000,
        batch=32,
        lr=3e-3,
        adam_lr=1e-3,
        text_lr=2e-4,
        decay_from=0.5,
        ema=0.998,
        every=100,
        compile=0,
        name="dit",
        minutes=0.0,
    )
    seed_everything(args.seed)
    pictures, records = load_pictures()
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(load_weights("autoencoder"))
    latents = packed_latents(autoencoder, pictures)
    model = Trainer(records)
    start_modulation_at_zero(model.transformer)
    named = dict(model.named_parameters())
    text = load_checkpoint(work_dir() / "text.safetensors")[0]
    model.clip.load_state_dict(without_prefix("clip", text))
    model.t5.load_state_dict(without_prefix("t5", text))
    muon = [v for k, v in named.items() if k.startswith("transformer") and is_hidden_matrix(k, v)]
    chosen = {id(v) for v in muon}
    adam = [v for k, v in named.items() if k.startswith("transformer") and id(v) not in chosen]
    language = [v for k, v in named.items() if not k.startswith("transformer")]
    optimizers = [
        torch.optim.Muon(muon, lr=args.lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": adam, "peak": args.adam_lr}, {"params": language, "peak": args.text_lr}],
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        ),
    ]
    optimizers[0].param_groups[0]["peak"] = args.lr
    path, start = work_dir() / f"{args.name}.safetensors", 0
    average = EMA(named, args.ema)
    if found := load_checkpoint(path):
        tensors, start = found
        model.load_state_dict(without_prefix("model", tensors), strict=False)
        average.values = without_prefix("ema", tensors)
        restore_moments(optimizers, named, tensors, start)
    rng = torch.Generator().manual_seed(args.seed + start)
    words = random.Random(args.seed + start)
    log = Log(args.name)
    forward = torch.compile(model) if args.compile else model
    running, began = Mean(), time.time()
    for step in range(start, args.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args.steps, group["peak"], warmup=100, decay_from=args.decay_from)
        rows = torch.randint(len(records), (args.batch,), generator=rng)
        empty = torch.rand(args.batch, generator=rng) < 0.1
        captions = ["" if e else caption(records[i], words) for i, e in zip(rows.tolist(), empty.tolist(), strict=True)]
        x0 = latents[rows]
        noise = torch.randn(x0.shape, generator=rng)
        t = draw_timesteps(args.batch, rng)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            losses = forward(model.text[0].tokens(captions), x0, noise, t)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(adam + language, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(named, step)
        losses, noisy = losses.detach(), t > 0.6
        running.add(loss=losses, noisy=losses[noisy], clean=losses[~noisy])
        last = step + 1 == args.steps or (args.minutes and time.time() - began > 60 * args.minutes)
        if (step + 1) % args.every == 0 or last:
            save_checkpoint(
                path,
                prefixed("model", named) | prefixed("ema", average.values) | moments(optimizers, named),
                step + 1,
            )
            rate = optimizers[0].param_groups[0]["lr"]
            log(step=step + 1, samples=(step + 1) * args.batch, lr=rate, **running.take())
        if last:
            break


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
