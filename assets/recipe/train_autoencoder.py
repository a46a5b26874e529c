"""Train the autoencoder: 128×128 pictures to 16×16 latents of 16 channels (f8), a stock `AutoencoderTiny`.

Two stages, both resumable. First encoder and decoder together, with a little latent noise and a pull of every latent
channel to zero mean and unit variance, so that one scalar scale suffices for the diffusion model. Then the encoder is
frozen, its latents are computed once, and the decoder alone goes on at a fraction of the cost.
"""

from __future__ import annotations

import torch
from common import (
    Log,
    Mean,
    arguments,
    learning_rate,
    load_checkpoint,
    load_pictures,
    moments,
    prefixed,
    restore_moments,
    save_checkpoint,
    seed_everything,
    without_prefix,
    work_dir,
)
from diffusers import AutoencoderTiny


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        num_encoder_blocks=(0, 1, 2, 4),
        num_decoder_blocks=(4, 3, 1, 0),
    )


def psnr_per_picture(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of each picture, both (n, 3, h, w) in -1..1 (peak-to-peak 2)."""
    return 10 * torch.log10(4 / (a - b).square().flatten(1).mean(1).clamp_min(1e-9))


@torch.no_grad()
def evaluate(model: AutoencoderTiny, pictures: torch.Tensor) -> dict[str, float]:
    values = []
    for batch in pictures.split(32):
        x = batch.float() / 127.5 - 1
        values.append(psnr_per_picture(model.decode(model.encode(x).latents).sample.clamp(-1, 1), x))
    values = torch.cat(values)
    return {"psnr": values.mean().item(), "psnr_min": values.min().item()}


@torch.no_grad()
def encode_all(model: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    return torch.cat([model.encode(batch.float() / 127.5 - 1).latents for batch in pictures.split(32)])


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Squared error for PSNR and colour, and a little absolute error on gradients for crisp edges."""
    edges = (y.diff(dim=2) - x.diff(dim=2)).abs().mean() + (y.diff(dim=3) - x.diff(dim=3)).abs().mean()
    return (y - x).square().mean() + 0.02 * edges


def main() -> None:
    args = arguments(
        __doc__,
        steps=2800,
        batch=16,
        lr=2e-3,
        noise=0.1,
        decoder_steps=0,
        decoder_lr=1e-3,
        every=400,
        name="autoencoder",
    )
    rng = seed_everything(args.seed)
    pictures, _ = load_pictures()
    model = build().to(memory_format=torch.channels_last)
    path = work_dir() / f"{args.name}.safetensors"
    start = 0
    found = load_checkpoint(path)
    if found:
        model.load_state_dict(without_prefix("model", found[0]))
        start = found[1]
        rng.manual_seed(args.seed + start)
    log = Log(args.name)
    total = args.steps + args.decoder_steps
    latents, optimizer, running, named = None, None, Mean(), dict(model.named_parameters())
    for step in range(start, total):
        joint = step < args.steps
        if optimizer is None or step == args.steps:
            trained = model if joint else model.decoder
            optimizer = torch.optim.AdamW(trained.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
            if found and joint == (found[1] < args.steps):
                restore_moments([optimizer], named, *found)
            if not joint:
                latents = encode_all(model, pictures)
        rate = (
            learning_rate(step, args.steps, args.lr, warmup=200, decay_from=0.4)
            if joint
            else learning_rate(step - args.steps, args.decoder_steps, args.decoder_lr, warmup=100, decay_from=0.3)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(pictures), (args.batch,), generator=rng)
        x = (pictures[rows].float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            z = model.encode(x).latents.float() if joint else latents[rows]
            noisy = z + args.noise * torch.randn(z.shape, generator=rng)
            y = model.decode(noisy).sample.float()
        loss = reconstruction_loss(y, x)
        if joint:
            variance, mean = torch.var_mean(z, dim=(0, 2, 3))
            loss = loss + 2e-3 * (mean.square() + (variance.clamp_min(1e-3).log()).square()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running.add(loss=loss)
        if (step + 1) % args.every == 0 or step + 1 == total:
            save_checkpoint(path, prefixed("model", model.state_dict()) | moments([optimizer], named), step + 1)
            quality = evaluate(model, pictures[:: 4 if step + 1 < total else 1])
            log(step=step + 1, lr=rate, **running.take(), **quality)


if __name__ == "__main__":
    main()
