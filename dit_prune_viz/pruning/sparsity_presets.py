"""Ready sparsities for blocks and kinds, as texts that `sparsity_text.read_sparsities` reads for the same model."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dit_prune_viz.pruning.sparsity_text import ALL, block_layers
from dit_prune_viz.pruning.sparsity_words import Shaped

_FEWEST = 4
"""Blocks that a model must have for its ends to differ from its middle."""
_ENDS = (1 / 8, 1 / 16)
"""The share of blocks that count as first and as last."""
_SLOPE = 0.4
"""How much less than the average the outermost blocks lose in `middle heavy`, as a share of it."""
_MODULATION = "adaLN*"


@dataclass(frozen=True)
class Preset:
    """Sparsities to choose. about: what they are good for, and where they come from."""

    name: str
    text: str
    about: str


def presets(layers: Sequence[Shaped], sparsity: float) -> tuple[Preset, ...]:
    """The presets that make sense for a model; each prunes it to `sparsity`, to about 0.1 %.

    Args:
        layers: of the model, in its order.
        sparsity: 0–1, of all prunable weights.
    """
    if not layers:
        return ()
    found = [Preset("Uniform", f"{ALL}:{_percent(sparsity)}", "The same sparsity everywhere.")]
    blocks = sorted({layer.block for layer in block_layers(layers)})
    if len(blocks) >= _FEWEST:
        first, last = (max(1, round(len(blocks) * share)) for share in _ENDS)
        ends = [blocks[:first], blocks[-last:]]
        names = [f"{end[0]}-{end[-1]}" if len(end) > 1 else str(end[0]) for end in ends]
        inside = {layer.name for layer in block_layers(layers) for end in ends if layer.block in end}
        about = (
            "The first eighth and the last sixteenth of the blocks stay dense, the others make up for it. LLM-Pruner "
            "(arXiv 2305.11627) leaves 4 + 2 of LLaMA's 32 blocks alone in this way."
        )
        found.append(Preset("Protect first and last blocks", _protect(layers, inside, names, sparsity), about))
    modulation = {layer.name for layer in layers if layer.kind.startswith(_MODULATION[:-1])}
    if modulation and len(modulation) < len(layers):
        about = "Modulation layers, which scale and shift every token, stay dense; the others make up for it."
        found.append(Preset("Protect adaLN", _protect(layers, modulation, [_MODULATION], sparsity), about))
    if len(blocks) >= _FEWEST:
        about = f"Blocks in the middle lose most, the outermost {100 * _SLOPE:.0f} % less than the average."
        found.append(Preset("Middle heavy", _hat(layers, blocks, sparsity), about))
    return tuple(found)


def _protect(layers: Iterable[Shaped], protected: Collection[str], names: Iterable[str], sparsity: float) -> str:
    """Some layers dense, and the others sparser, so that the sum stays; what these do not have, the first lose."""
    sizes = {layer.name: math.prod(layer.shape) for layer in layers}
    spared = sum(sizes[name] for name in protected)
    goal, free = sparsity * sum(sizes.values()), sum(sizes.values()) - spared
    rest = min(1.0, goal / free)
    left = _percent(max(0.0, goal - rest * free) / spared)
    return ", ".join([f"{ALL}:{_percent(rest)}", *(f"{name}:{left}" for name in names)])


def _hat(layers: Sequence[Shaped], blocks: Sequence[int], sparsity: float) -> str:
    """Half a sine over the blocks, whose mean by weights is the sparsity; no block loses more than all."""
    sizes = dict.fromkeys(blocks, 0)
    for layer in block_layers(layers):
        sizes[layer.block] += math.prod(layer.shape)
    waves = {block: math.sin(math.pi * (place + 0.5) / len(blocks)) for place, block in enumerate(blocks)}
    total = sum(sizes.values())
    mean = sum(waves[block] * size for block, size in sizes.items()) / total
    least, most = min(waves.values()), max(waves.values())
    # The outermost blocks lie `_SLOPE` of the average below it, less where the middle would lose more than everything.
    scale = min(_SLOPE * sparsity / (mean - least or 1), (1 - sparsity) / (most - mean or 1))
    shares = {block: _percent(sparsity + scale * (wave - mean)) for block, wave in waves.items()}
    outside = [f"{ALL}:{_percent(sparsity)}"] if len(block_layers(layers)) < len(layers) else []
    return ", ".join([*outside, *(f"{block}:{share}" for block, share in shares.items())])


def _percent(share: float) -> str:
    """To 0.1 %."""
    return f"{100 * share:.1f}".removesuffix(".0")
