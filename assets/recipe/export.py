"""Write the trained parts as a stock diffusers folder (`assets/emoji-flux`), weights in bfloat16 safetensors."""

from __future__ import annotations

import json

import torch
from common import (
    IMAGE_SIZE,
    PIPELINE,
    arguments,
    load_checkpoint,
    load_pictures,
    load_weights,
    seed_everything,
    without_prefix,
    work_dir,
)
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from train_autoencoder import build as build_autoencoder
from train_autoencoder import encode_all
from train_dit import build_transformer
from train_text import TOKENS
from train_text import build as build_text


def latent_statistics(autoencoder, pictures: torch.Tensor) -> tuple[float, float]:
    """Scale and shift that give the latents of the set unit variance and zero mean."""
    latents = encode_all(autoencoder, pictures)
    return 1 / latents.std().item(), latents.mean().item()


def main() -> None:
    args = arguments(__doc__, checkpoint="dit", shift=1.0, guidance=3.0, steps=20)
    seed_everything(0)
    pictures, records = load_pictures()
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(load_weights("autoencoder"))
    scale, shift = latent_statistics(autoencoder, pictures)
    autoencoder.register_to_config(scaling_factor=scale, shift_factor=shift)
    clip_tok, t5_tok, clip, t5 = build_text(records)
    transformer = build_transformer()
    if found := load_checkpoint(work_dir() / f"{args.checkpoint}.safetensors"):
        average = without_prefix("ema", found[0])
        transformer.load_state_dict(without_prefix("transformer", average))
        clip.load_state_dict(without_prefix("clip", average))
        t5.load_state_dict(without_prefix("t5", average), strict=False)  # its tied embedding is stored once
        print("checkpoint at step", found[1])
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=args.shift),
        vae=autoencoder,
        text_encoder=clip,
        tokenizer=clip_tok,
        text_encoder_2=t5,
        tokenizer_2=t5_tok,
        transformer=transformer,
    )
    pipeline.to(torch.bfloat16)
    pipeline.save_pretrained(PIPELINE, safe_serialization=True)
    for part in ("text_encoder", "text_encoder_2"):  # they alone go by it, and would load in bfloat16
        config = PIPELINE / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    defaults = {
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
        "steps": args.steps,
        "guidance_scale": args.guidance,
        "max_sequence_length": TOKENS,
        "prompts": [record["name"] for record in records],
    }
    (PIPELINE / "generation_defaults.json").write_text(json.dumps(defaults, indent=1, ensure_ascii=False) + "\n")
    print("wrote", PIPELINE, f"{sum(f.stat().st_size for f in PIPELINE.rglob('*') if f.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
