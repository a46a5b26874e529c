"""Draw the transformer inputs to watch: which prompt, which denoising step, which half under guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

_PROMPT_SHARE = 8
"""Watched inputs per prompt: 128 inputs come from 16 prompts, so that both prompts and timesteps vary."""


@dataclass(frozen=True)
class Draw:
    """The inputs to watch, out of `prompts` × `steps` × `halves`.

    Attributes:
        prompts: texts to denoise, one run each; they repeat if there are fewer texts than runs.
        watched: run -> step -> halves to watch, all counted from 0.
        texts: what the prompts were chosen from, so that more of the kind can be drawn.
    """

    prompts: tuple[str, ...]
    watched: Mapping[int, Mapping[int, tuple[int, ...]]]
    texts: tuple[str, ...] = ()


def draw_inputs(
    samples: int, *, prompts: Sequence[str], steps: int, halves: int, seed: int, share: int = _PROMPT_SHARE
) -> Draw:
    """Draw `samples` inputs uniformly without replacement, over all timesteps (arXiv 2607.00927, Fig. 6 and Table 10).

    Args:
        samples: how many, at least 1.
        prompts: texts to choose from, at least one.
        steps: denoising steps of a run.
        halves: transformer inputs per prompt and step, 2 under classifier-free guidance.
        seed: decides everything.
        share: inputs from each run, where a run has as many.
    """
    generator = torch.Generator().manual_seed(seed)
    runs = max(math.ceil(samples / share), math.ceil(samples / (steps * halves)))
    order = torch.randperm(len(prompts), generator=generator).tolist()
    texts = tuple(prompts[order[run % len(order)]] for run in range(runs))
    picked = torch.randperm(runs * steps * halves, generator=generator)[:samples]
    watched: dict[int, dict[int, tuple[int, ...]]] = {}
    for position in sorted(picked.tolist()):
        run, rest = divmod(position, steps * halves)
        step, half = divmod(rest, halves)
        watched.setdefault(run, {})
        watched[run][step] = (*watched[run].get(step, ()), half)
    return Draw(texts, watched, tuple(prompts))
