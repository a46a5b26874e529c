"""How large a picture a model has positions for, read from its configuration; beyond it pipelines die of an index."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dit_prune_viz.pipelines.defaults import vae_factor

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def most_pixels(pipeline: DiffusionPipeline, side: int) -> int | None:
    """The most pixels of height (side 0) or width (1); None where positions are computed for any size."""
    config = pipeline.transformer.config
    patch = config.get("patch_size") or config.get("all_patch_size") or 1
    patch = patch[-1] if isinstance(patch, (list, tuple)) else patch
    tokens = None
    if config.get("rope_axes_dim") is None and isinstance(config.get("pos_embed_max_size"), int):
        tokens = config["pos_embed_max_size"]
        if "num_mmdit_layers" in config:  # AuraFlow counts the positions of a whole square
            tokens = math.isqrt(tokens)
    for name in ("axes_lens", "max_size"):  # of the text or the frames, of rows, of columns
        lengths = config.get(name)
        if isinstance(lengths, (list, tuple)) and len(lengths) == 3:
            cells = 1 if name == "axes_lens" else patch
            tokens = lengths[1 + side] // cells
    if isinstance(config.get("rope_max_seq_len"), int):
        tokens = config["rope_max_seq_len"]
    return tokens and tokens * patch * vae_factor(pipeline)


def only_area(pipeline: DiffusionPipeline) -> int | None:
    """Height × width in pixels of a pipeline that scales every picture to one area (HiDream); None elsewhere."""
    if not type(pipeline).__name__.startswith("HiDream"):
        return None
    return (pipeline.default_sample_size * vae_factor(pipeline)) ** 2


def only_sizes(pipeline: DiffusionPipeline) -> tuple[tuple[int, int], ...]:
    """(width, height) of all pictures of a pipeline that draws the nearest of them (Kandinsky 5); empty elsewhere."""
    return tuple(map(tuple, getattr(pipeline, "resolutions", None) or ()))
