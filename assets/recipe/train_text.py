"""Tokenizers and text encoders of the pipeline: captions are first taught to predict the latents they describe.

The diffusion model then starts from text features that already tell pictures apart: the pooled CLIP feature and the
mean T5 feature each regress the leading principal components of the packed latents through a linear head that is
thrown away afterwards. Training of the diffusion model goes on improving both encoders.
"""

from __future__ import annotations

import random

import torch
from common import (
    Log,
    Mean,
    arguments,
    learning_rate,
    load_checkpoint,
    load_pictures,
    load_weights,
    moments,
    restore_moments,
    save_checkpoint,
    seed_everything,
    without_prefix,
    work_dir,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TOKENS = 16
CLIP_TOKENS = 24
WIDTH = 256
TEMPLATES = ("{}", "{}", "an emoji of {}", "{} emoji", "a picture of {}", "a small drawing of {}")


def caption(record: dict, rng: random.Random) -> str:
    """One phrasing of a record: the name in a template, with up to three keywords behind it half of the time."""
    text = rng.choice(TEMPLATES).format(record["name"])
    if record["keywords"] and rng.random() < 0.5:
        words = rng.sample(record["keywords"], min(len(record["keywords"]), rng.randint(1, 3)))
        text += ", " + ", ".join(words)
    return text


def corpus(records: list[dict]) -> list[str]:
    rng = random.Random(0)
    names = [r["name"] for r in records]
    return names * 4 + [" ".join(r["keywords"]) for r in records] + [caption(r, rng) for r in records for _ in range(4)]


def clip_tokenizer(texts: list[str], max_length: int = CLIP_TOKENS) -> CLIPTokenizer:
    """A byte-level BPE of CLIP's own make, trained on the captions; it can spell any text."""
    backend = CLIPTokenizer().backend_tokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    trained.normalizer, trained.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        min_frequency=2,
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    import json

    model = json.loads(trained.to_str())["model"]
    vocab = dict(model["vocab"])
    for letter in sorted(alphabet):
        vocab.setdefault(letter + "</w>", len(vocab))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def t5_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A unigram vocabulary of T5's own make, trained on the captions."""
    backend = T5Tokenizer(extra_ids=0).backend_tokenizer
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = backend.pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=2500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    import json

    vocab = [(piece, score) for piece, score in json.loads(trained.to_str())["model"]["vocab"]]
    known = {piece for piece, _ in vocab}
    lowest = min(score for _, score in vocab) - 1
    vocab += [(c, lowest) for c in map(chr, range(33, 127)) if c not in known]
    tokenizer = T5Tokenizer(vocab=vocab, extra_ids=0).backend_tokenizer
    # T5's own class drops a normalizer when it loads, so the same tokenizer is kept in the general class.
    tokenizer.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=TOKENS
    )


def build(records: list[dict]) -> tuple[CLIPTokenizer, PreTrainedTokenizerFast, CLIPTextModel, T5EncoderModel]:
    texts = corpus(records)
    clip_tok, t5_tok = clip_tokenizer(texts), t5_tokenizer(texts)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tok),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CLIP_TOKENS,
            bos_token_id=clip_tok.bos_token_id,
            eos_token_id=clip_tok.eos_token_id,
            pad_token_id=clip_tok.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tok),
            d_model=WIDTH,
            d_kv=64,
            d_ff=3 * WIDTH,
            num_layers=3,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=t5_tok.pad_token_id,
            eos_token_id=t5_tok.eos_token_id,
        )
    )
    return clip_tok, t5_tok, clip, t5


class TextEncoders(nn.Module):
    """Both encoders, called as FluxPipeline calls them: no attention mask, padding to a fixed length."""

    def __init__(self, clip_tok, t5_tok, clip: CLIPTextModel, t5: T5EncoderModel):
        super().__init__()
        self.clip_tok, self.t5_tok, self.clip, self.t5 = clip_tok, t5_tok, clip, t5

    def tokens(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return (
            self.clip_tok(texts, max_length=CLIP_TOKENS, **options).input_ids,
            self.t5_tok(texts, max_length=TOKENS, **options).input_ids,
        )

    def forward(self, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled feature (n, width) and token features (n, tokens, width)."""
        return self.clip(clip_ids).pooler_output, self.t5(t5_ids)[0]


def principal_components(latents: torch.Tensor, count: int) -> torch.Tensor:
    """Leading scores (n, count) of flattened latents, scaled by the square root of their spread."""
    flat = latents.flatten(1)
    u, s, _ = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    scores = u[:, :count] * len(flat) ** 0.5
    return scores * (s[:count] / s[0]).sqrt()


def main() -> None:
    from train_autoencoder import build as build_autoencoder
    from train_autoencoder import encode_all

    args = arguments(__doc__, steps=1000, batch=64, lr=1e-3, every=250)
    rng = seed_everything(args.seed)
    pictures, records = load_pictures()
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(load_weights("autoencoder"))
    targets = principal_components(encode_all(autoencoder, pictures), 256)
    encoders = TextEncoders(*build(records))
    heads = nn.ModuleList([nn.Linear(WIDTH, targets.shape[1]), nn.Linear(WIDTH, targets.shape[1])])
    optimizer = torch.optim.AdamW([*encoders.parameters(), *heads.parameters()], betas=(0.9, 0.98), weight_decay=0.01)
    path, start, running = work_dir() / "text.safetensors", 0, Mean()
    parts = {"clip": encoders.clip, "t5": encoders.t5, "heads": heads}
    named = {f"{part}.{k}": v for part, module in parts.items() for k, v in module.named_parameters()}
    if found := load_checkpoint(path):
        tensors, start = found
        for part, module in parts.items():
            module.load_state_dict(without_prefix(part, tensors))
        restore_moments([optimizer], named, tensors, start)
        rng.manual_seed(args.seed + start)
    log, words = Log("text"), random.Random(args.seed + start)
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, warmup=100, decay_from=0.5)
        rows = torch.randint(len(records), (args.batch,), generator=rng)
        ids = encoders.tokens([caption(records[i], words) for i in rows.tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            pooled, tokens = encoders(*ids)
            guesses = [heads[0](pooled), heads[1](tokens.mean(1))]
        loss = sum((g.float() - targets[rows]).square().mean() for g in guesses)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoders.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running.add(loss=loss)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            weights = {
                f"{part}.{k}": v.clone() for part, module in parts.items() for k, v in module.state_dict().items()
            }
            save_checkpoint(path, weights | moments([optimizer], named), step + 1)
            means = running.take()
            log(step=step + 1, **means, unexplained=means["loss"] / 2 / targets.square().mean().item())


if __name__ == "__main__":
    main()
