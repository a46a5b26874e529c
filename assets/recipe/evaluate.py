"""Measure the bundled models as they are shipped, and draw the contact sheet of the model card.

Writes `assets/evaluation.json`, both model cards and `assets/emoji-flux/contact_sheet.png`. Generation is a plain
FluxPipeline call.
"""

from __future__ import annotations

import json
import sys

import torch
from cards import write_cards
from common import ASSETS, CLIP, PIPELINE, arguments, load_pictures, seed_everything
from corrupt import CORRUPTIONS
from diffusers import FluxPipeline
from PIL import Image
from scipy.stats import spearmanr
from train_autoencoder import psnr_per_picture

sys.path.insert(0, str(ASSETS.parent))
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.clip_mean import mean_clip

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def to_images(pictures: torch.Tensor) -> list[Image.Image]:
    """uint8 (n, 3, h, w) to PIL."""
    return [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pictures]


@torch.inference_mode()
def reconstruction(pipeline: FluxPipeline, pictures: torch.Tensor) -> dict[str, float]:
    values = []
    for batch in pictures.split(32):
        x = batch.float() / 127.5 - 1
        values.append(psnr_per_picture(pipeline.vae.decode(pipeline.vae.encode(x).latents).sample.clamp(-1, 1), x))
    values = torch.cat(values)
    pooled = 10 * torch.log10(1 / (10 ** (-values / 10)).mean())
    return {
        "mean_psnr_db": values.mean().item(),
        "psnr_of_mean_error_db": pooled.item(),
        "worst_db": values.min().item(),
    }


def retrieval(images: torch.Tensor, texts: torch.Tensor, own: list[int]) -> dict[str, float]:
    """Share of pictures whose own caption is first, or among the first five, of all captions."""
    order = (images @ texts.T).argsort(1, descending=True)[:, :5]
    hits = order == torch.tensor(own)[:, None]
    return {"top1": hits[:, 0].float().mean().item(), "top5": hits.any(1).float().mean().item()}


def corruption_curves(clip, pictures: torch.Tensor, names: list[str], rng: torch.Generator) -> dict[str, dict]:
    curves = {}
    for kind in ("blur", "noise", "shuffle"):
        scores = []
        for strength in STRENGTHS:
            worse = torch.stack([CORRUPTIONS[kind](p / 255, strength, rng) for p in pictures])
            scores.append(mean_clip(clip.score(to_images((worse * 255).round().byte()), names)))
        curves[kind] = {"scores": scores, "spearman": float(spearmanr(STRENGTHS, scores).statistic)}
    return curves


@torch.inference_mode()
def generate(
    pipeline: FluxPipeline, prompts: list[str], defaults: dict, seed: int, batch: int = 25
) -> list[Image.Image]:
    images = []
    for start in range(0, len(prompts), batch):
        chunk = prompts[start : start + batch]
        images += pipeline(
            chunk,
            negative_prompt=[""] * len(chunk),
            true_cfg_scale=defaults["guidance_scale"],
            height=defaults["height"],
            width=defaults["width"],
            num_inference_steps=defaults["steps"],
            max_sequence_length=defaults["max_sequence_length"],
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(chunk))],
        ).images
    return images


def contact_sheet(images: list[Image.Image], columns: int) -> Image.Image:
    side = images[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * side, i // columns * side))
    return sheet


def main() -> None:
    args = arguments(__doc__, captions=200, sheet=48, guidance=0.0, sheet_only=0)
    rng = seed_everything(args.seed)
    pictures, records = load_pictures()
    names = [record["name"] for record in records]
    pipeline = FluxPipeline.from_pretrained(PIPELINE, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    defaults = json.loads((PIPELINE / "generation_defaults.json").read_text())
    if args.guidance:
        defaults["guidance_scale"] = args.guidance
    chosen = torch.randperm(len(names), generator=rng)[: args.captions].tolist()
    images = generate(pipeline, [names[i] for i in chosen], defaults, seed=args.seed)
    sheet = contact_sheet(images[: args.sheet], 8)
    sheet.save(PIPELINE / "contact_sheet.png")
    if args.sheet_only:
        return
    clip = load_clip(CLIP)
    texts = clip.embed_texts(names)
    sample = pictures[torch.randperm(len(pictures), generator=rng)[:128]]
    sample_names = [names[int((pictures == p).flatten(1).all(1).nonzero()[0, 0])] for p in sample]
    result = {
        "pictures": len(pictures),
        "autoencoder": reconstruction(pipeline, pictures),
        "clip_parameters": clip.parameters,
        "clip_real_pictures": retrieval(clip.embed_images(to_images(pictures)), texts, list(range(len(names)))),
        "clip_generations": {"captions": len(chosen), **retrieval(clip.embed_images(images), texts, chosen)},
        "clip_score_generations": mean_clip(clip.score(images, [names[i] for i in chosen])),
        "corruptions": {
            "pictures": len(sample),
            "strengths": STRENGTHS,
            **corruption_curves(clip, sample, sample_names, rng),
        },
        "generation": {k: v for k, v in defaults.items() if k != "prompts"},
    }
    (ASSETS / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    write_cards()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
