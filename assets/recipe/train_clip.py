"""Train the bundled emoji-CLIP: a stock `CLIPModel` for offline scores, on the same pictures and captions.

Two aims in one loss. Contrast: a mildly changed picture finds its own caption among all of the batch, and the reverse.
Grading: the cosine between a picture and its caption is regressed onto a target that falls as the picture is corrupted
or mixed with another, so that the score means quality and not only identity.
"""

from __future__ import annotations

import json
import random
import shutil

import torch
import torch.nn.functional as F
from common import CLIP, IMAGE_SIZE, Log, arguments, learning_rate, load_checkpoint, load_pictures, save_checkpoint
from common import seed_everything, work_dir
from corrupt import CORRUPTIONS
from train_text import caption, clip_tokenizer, corpus
from transformers import CLIPConfig, CLIPModel

MEAN = STD = (0.5, 0.5, 0.5)
BEST, WORST = 0.9, 0.05
TOKENS = 24


def build(vocabulary) -> CLIPModel:
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 192,
        "intermediate_size": 576,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "max_position_embeddings": TOKENS,
        "bos_token_id": vocabulary.bos_token_id,
        "eos_token_id": vocabulary.eos_token_id,
        "pad_token_id": vocabulary.pad_token_id,
    }
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": 16,
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128, logit_scale_init_value=2.6))


def jitter(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Mild changes that leave pictures (n, 3, h, w) as good as they were: scale, shift, brightness, a trace of noise."""
    draw = torch.rand(6, len(x), generator=rng) * 2 - 1
    scale, zero = 1 + 0.06 * draw[0], torch.zeros(len(x))
    rows = torch.stack([scale, zero, 0.06 * draw[1], zero, scale * (1 + 0.03 * draw[2]), 0.06 * draw[3]])
    grid = F.affine_grid(rows.T.reshape(-1, 2, 3), x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    brightness, grain = (v.view(-1, 1, 1, 1) for v in (1 + 0.06 * draw[4], 0.02 * draw[5].abs()))
    return (x * brightness + grain * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def degrade(x: torch.Tensor, other: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, float]:
    """The picture after one random corruption, and its strength."""
    strength = float(torch.rand((), generator=rng))
    kinds = [*CORRUPTIONS, "mix"]
    kind = kinds[int(torch.randint(len(kinds), (), generator=rng))]
    if kind == "mix":
        return torch.lerp(x, other, strength), strength
    return CORRUPTIONS[kind](x, strength, rng), strength


def main() -> None:
    args = arguments(__doc__, steps=2000, batch=40, lr=1e-3, every=250, name="clip")
    rng = seed_everything(args.seed)
    pictures, records = load_pictures()
    vocabulary = clip_tokenizer(corpus(records), TOKENS)
    model = build(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    path, start = work_dir() / f"{args.name}.safetensors", 0
    if found := load_checkpoint(path):
        model.load_state_dict(found[0])
        start = found[1]
        rng.manual_seed(args.seed + start)
    words, log, running = random.Random(args.seed + start), Log(args.name), torch.zeros(3)
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, warmup=100, decay_from=0.4)
        rows = torch.randperm(len(records), generator=rng)[: args.batch]
        clean = jitter(pictures[rows] / 255.0, rng)
        worse = [degrade(x, clean[i - 1], rng) for i, x in enumerate(clean)]
        strength = torch.tensor([s for _, s in worse])
        pixels = torch.cat([clean, torch.stack([x for x, _ in worse])]).sub(0.5).div(0.5)
        texts = [caption(records[i], words) for i in rows.tolist()]
        ids = vocabulary(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=ids.input_ids, pixel_values=pixels)
        image, text = F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)
        cosine = image @ text.T
        logits = cosine * model.logit_scale.exp().clamp(max=60)
        own = torch.arange(args.batch)
        mild = own[strength < 0.5]
        contrast = (
            F.cross_entropy(logits[: args.batch], own)
            + F.cross_entropy(logits[: args.batch].T, own)
            + F.cross_entropy(logits[args.batch + mild], mild)
        )
        target = torch.cat([torch.full((args.batch,), BEST), BEST + (WORST - BEST) * strength])
        grade = (cosine[torch.arange(2 * args.batch), own.repeat(2)] - target).square().mean()
        stranger = F.relu(cosine[: args.batch] - 0.4).square().masked_fill(torch.eye(args.batch, dtype=torch.bool), 0).mean()
        loss = contrast / 3 + 8 * grade + 2 * stranger
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        hit = (logits[: args.batch].argmax(1) == own).float().mean()
        running += torch.stack([contrast.detach() / 3, grade.detach().sqrt(), hit])
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            save_checkpoint(path, model.state_dict(), step + 1)
            contrast_mean, grade_mean, hit_mean = (running / args.every).tolist()
            log(step=step + 1, contrast=contrast_mean, grade_error=grade_mean, batch_top1=hit_mean)
            running.zero_()
    export(model, vocabulary)


def export(model: CLIPModel, vocabulary) -> None:
    """Write a stock CLIPModel folder with its tokenizer and image processor settings."""
    shutil.rmtree(CLIP, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(CLIP)
    vocabulary.save_pretrained(CLIP)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_convert_rgb": True,
    }
    (CLIP / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    print("wrote", CLIP)


if __name__ == "__main__":
    main()
