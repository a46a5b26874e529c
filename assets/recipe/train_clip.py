"""Train the bundled emoji-CLIP: a stock `CLIPModel` for offline scores, on the same pictures and captions.

Two aims in one loss. Contrast: a mildly changed picture finds its own name among those of the whole set (a bank of name
features, refreshed now and then), and a caption finds its picture in the batch. Grading: the cosine between a picture
and its caption is regressed onto a target that falls as the picture is corrupted or mixed with another, so that the
score means quality and not only identity.
"""

from __future__ import annotations

import json
import random

import torch
import torch.nn.functional as F
from common import (
    CLIP,
    IMAGE_SIZE,
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
from corrupt import CORRUPTIONS, shuffle
from train_text import CLIP_TOKENS, WIDTH, caption, clip_tokenizer, corpus
from transformers import CLIPConfig, CLIPModel

MEAN = STD = (0.5, 0.5, 0.5)
BEST, WORST = 0.9, 0.05


def build(vocabulary) -> CLIPModel:
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": CLIP_TOKENS,
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
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=128, logit_scale_init_value=2.6)
    )
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding.weight[1:] = grid_waves(IMAGE_SIZE // 16, 192)
    return model


def grid_waves(side: int, width: int) -> torch.Tensor:
    """2-D sine and cosine positions (side², width), as large as the patches' own features.

    With CLIP's usual small random start this model became a bag of patches that shuffling them hardly disturbed.
    """
    frequencies = torch.pi * torch.arange(1, width // 4 + 1) / (width // 4) * 2
    angles = torch.arange(side)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1) * 2.5


@torch.no_grad()
def name_features(model: CLIPModel, vocabulary, records: list[dict]) -> torch.Tensor:
    """Unit features of all names, (n, 128)."""
    names = [record["name"] for record in records]
    ids = vocabulary(names, padding="max_length", truncation=True, max_length=CLIP_TOKENS, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        features = model.get_text_features(input_ids=ids.input_ids).pooler_output
    return F.normalize(features.float(), dim=-1)


def jitter(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Mild changes that leave pictures (n, 3, h, w) as good as they were: scale, shift, brightness, faint noise."""
    draw = torch.rand(6, len(x), generator=rng) * 2 - 1
    scale, zero = 1 + 0.06 * draw[0], torch.zeros(len(x))
    rows = torch.stack([scale, zero, 0.06 * draw[1], zero, scale * (1 + 0.03 * draw[2]), 0.06 * draw[3]])
    grid = F.affine_grid(rows.T.reshape(-1, 2, 3), x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    brightness, grain = (v.view(-1, 1, 1, 1) for v in (1 + 0.06 * draw[4], 0.02 * draw[5].abs()))
    return (x * brightness + grain * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def degrade(x: torch.Tensor, other: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, str, float]:
    """The picture after one random corruption, the kind and the strength."""
    strength = float(torch.rand((), generator=rng))
    kinds = [*CORRUPTIONS, "mix", "shuffle", "shuffle", "shuffle"]
    kind = kinds[int(torch.randint(len(kinds), (), generator=rng))]
    if kind == "mix":
        return torch.lerp(x, other, strength), kind, strength
    if kind == "shuffle":
        return shuffle(x, strength, rng, side=(8, 16, 32)[int(torch.randint(3, (), generator=rng))]), kind, strength
    return CORRUPTIONS[kind](x, strength, rng), kind, strength


def main() -> None:
    args = arguments(__doc__, steps=1500, batch=40, lr=1e-3, every=250, name="clip")
    rng = seed_everything(args.seed)
    pictures, records = load_pictures()
    vocabulary = clip_tokenizer(corpus(records))
    model = build(vocabulary)
    # The text tower starts as the pipeline's own text encoder, which has learnt what the captions describe.
    text = load_checkpoint(work_dir() / "text.safetensors")[0]
    model.text_model.load_state_dict(without_prefix("clip", text))
    words_first = {id(p) for p in model.text_model.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in words_first], "peak": args.lr},
        {"params": list(model.text_model.parameters()), "peak": args.lr / 5},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    named = dict(model.named_parameters())
    path, start = work_dir() / f"{args.name}.safetensors", 0
    if found := load_checkpoint(path):
        tensors, start = found
        model.load_state_dict(without_prefix("model", tensors))
        restore_moments([optimizer], named, tensors, start)
        rng.manual_seed(args.seed + start)
    words, log, running = random.Random(args.seed + start), Log(args.name), Mean()
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, group["peak"], warmup=100, decay_from=0.4)
        rows = torch.randperm(len(records), generator=rng)[: args.batch]
        clean = jitter(pictures[rows] / 255.0, rng)
        worse = [degrade(x, clean[i - 1], rng) for i, x in enumerate(clean)]
        strength = torch.tensor([s for *_, s in worse])
        shuffled = torch.tensor([kind == "shuffle" for _, kind, _ in worse])
        pixels = torch.cat([clean, torch.stack([x for x, *_ in worse])]).sub(0.5).div(0.5)
        texts = [caption(records[i], words) for i in rows.tolist()]
        ids = vocabulary(texts, padding="max_length", truncation=True, max_length=CLIP_TOKENS, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=ids.input_ids, pixel_values=pixels)
        image, text = F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)
        cosine = image @ text.T
        scale = model.logit_scale.exp().clamp(max=60)
        own = torch.arange(args.batch)
        mild = own[strength < 0.5]
        if (step - start) % 20 == 0:
            bank = name_features(model, vocabulary, records)
        logits = scale * image @ bank.T
        contrast = (
            F.cross_entropy(logits[: args.batch], rows)
            + F.cross_entropy(logits[args.batch + mild], rows[mild])
            + F.cross_entropy(scale * cosine[: args.batch], own)
            + F.cross_entropy(scale * cosine[: args.batch].T, own)
        )
        target = torch.cat([torch.full((args.batch,), BEST), BEST + (WORST - BEST) * strength])
        error = (cosine[torch.arange(2 * args.batch), own.repeat(2)] - target).square()
        others = ~torch.eye(args.batch, dtype=torch.bool)
        stranger = (F.relu(cosine[: args.batch] - 0.4).square() * others).mean()
        loss = contrast / 4 + 12 * error.mean() + 2 * stranger
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        hits = (logits[: args.batch].argmax(1) == rows).float()
        running.add(contrast=contrast / 4, grade=error, shuffled=error[args.batch :][shuffled], top1=hits)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            save_checkpoint(path, prefixed("model", model.state_dict()) | moments([optimizer], named), step + 1)
            log(step=step + 1, **running.take())
    export(model, vocabulary)


def export(model: CLIPModel, vocabulary) -> None:
    """Write a stock CLIPModel folder with its tokenizer and image processor settings."""
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
