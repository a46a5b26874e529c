"""Draw many pictures at once: which noise each prompt of a measurement starts from, and how many go together."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.pipelines.input_picture import draws_one
from dit_prune_viz.pipelines.model import Model

_BATCHES = ((10**8, 16), (10**9, 8))
"""Pictures at a time for models below so many parameters; larger ones draw 4."""


def noise_seed(prompt: str, seed: int) -> int:
    """The seed of a picture's noise: another one for every prompt, whatever set the prompt is drawn with."""
    return (zlib.crc32(prompt.encode()) + seed) % 2**32


def requests_for(model: Model, prompts: Sequence[str], seed: int, drawing: Request) -> tuple[Request, ...]:
    """A checked request per prompt with the settings of `drawing`. UserError as in `check_request`."""
    return tuple(
        check_request(model, replace(drawing, prompt=prompt, seed=noise_seed(prompt, seed))) for prompt in prompts
    )


def default_batch(model: Model) -> int:
    """How many pictures are drawn at a time unless somebody says otherwise."""
    if draws_one(model.pipeline):
        return 1
    return next((size for limit, size in _BATCHES if model.parameters < limit), 4)
