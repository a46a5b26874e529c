"""What a pipeline can be asked for beyond any prompts at hand: words of its own tokenizer, or classes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from dit_prune_viz.pipelines.families import parameters_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_WORD = re.compile(r"(?:[▁Ġ](?P<after>\w+)|(?P<before>\w+)</w>)")
"""A whole word as SentencePiece (▁), byte-level BPE (Ġ) and CLIP's BPE (</w>) mark it."""


def more_prompts(pipeline: DiffusionPipeline, count: int, seed: int) -> tuple[str, ...]:
    """`count` texts of two or three random words, or as many class numbers as there are but no more than `count`.

    They say what a model may be asked for without being told what it will be: nothing but its own vocabulary goes in,
    and no single word, which might well be a prompt that pictures are judged by. Empty for a pipeline whose tokenizer
    marks no words.

    Args:
        pipeline: loaded.
        count: how many, at least 0.
        seed: decides everything.
    """
    generator = torch.Generator().manual_seed(seed)
    if "class_labels" in parameters_of(pipeline):
        order = torch.randperm(pipeline.transformer.config.num_embeds_ada_norm, generator=generator)
        return tuple(map(str, order[:count].tolist()))
    words = _words(pipeline)
    if not words:
        return ()
    longer = torch.rand(count, generator=generator).lt(0.5).tolist()
    picked = torch.randint(len(words), (count, 3), generator=generator).tolist()
    return tuple(" ".join(words[i] for i in row[: 2 + more]) for row, more in zip(picked, longer, strict=True))


def _words(pipeline: DiffusionPipeline) -> tuple[str, ...]:
    """The words of three letters and more that the first tokenizer with any knows, in order."""
    from transformers import PreTrainedTokenizerBase

    for part in pipeline.components.values():
        if isinstance(part, PreTrainedTokenizerBase):
            found = {next(filter(None, match.groups())) for match in map(_WORD.fullmatch, part.get_vocab()) if match}
            words = tuple(sorted(word for word in found if len(word) > 2 and word.isalpha()))
            if words:
                return words
    return ()
