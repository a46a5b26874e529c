"""What people type to find a layer, and which layers they mean: the same for the list on the Map and the Layer page."""

from __future__ import annotations

from dit_prune_viz.pipelines.layers import OUTSIDE, Layer

_DUAL, _SINGLE = "transformer_blocks", "single_transformer_blocks"


def _layer(stack: str, index: int, block: int, name: str, kind: str) -> Layer:
    return Layer(f"{stack}.{index}.{name}", stack, block, kind, (4, 4))


LAYERS = (
    Layer("proj_in", OUTSIDE, -1, "other", (4, 4)),
    *(_layer(_DUAL, i, i, "attn.to_v", "v") for i in range(3)),
    *(_layer(_DUAL, i, i, "attn.add_v_proj", "context v") for i in range(3)),
    *(_layer(_SINGLE, i, 3 + i, "attn.to_v", "v") for i in range(31)),
)
SEARCHES = {
    "block 3": [f"{_SINGLE}.0.attn.to_v"],  # not single_transformer_blocks.3, which is block 6, nor block 30
    "v · block 3": [f"{_SINGLE}.0.attn.to_v"],
    "v · block 1": [f"{_DUAL}.1.attn.to_v"],  # not block 10 and on, and not the context's
    "V block 2": [f"{_DUAL}.2.attn.to_v", f"{_DUAL}.2.attn.add_v_proj"],
    "single 3": [f"{_SINGLE}.0.attn.to_v", f"{_SINGLE}.3.attn.to_v"],  # a number alone is the block's or the name's
    f"{_DUAL}.1.attn.to_v  ·  v": [f"{_DUAL}.1.attn.to_v"],  # as the Layer page's list shows it
    "other · outside the blocks": ["proj_in"],
    "context": [f"{_DUAL}.{i}.attn.add_v_proj" for i in range(3)],
}
"""Text → names, in the model's order."""
