"""Prunable layers by the words a person has for them: a name or path, a kind, a block, or a pattern of these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.also_prune import path_matches
from dit_prune_viz.pipelines.kinds import KINDS

MOST_PATTERNS = 1000
_MOST_CHARACTERS = 200
_GOOD = re.compile(r"[\w.*? -]+")
_BLOCKS = re.compile(r"blocks? ?(\d{1,6})(?: ?- ?(\d{1,6}))?", re.IGNORECASE)


class Placed(Protocol):
    """A layer, as far as its names are concerned; see `pipelines.layers.Layer`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def block(self) -> int: ...
    @property
    def place(self) -> str: ...


def read_layer_patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    """Patterns of layers, each once, in the order given; a text holds several between commas, semicolons or lines.

    Raises:
        UserError: something that is no text, a character that no layer's name has, or very many patterns.
    """
    texts = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(texts, Iterable):
        texts = [None]
    found: dict[str, None] = {}
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"Layers are named by texts such as 'adaLN' or 'block 3', not by {brief(patterns)}.")
        found |= dict.fromkeys(_checked(word) for word in re.split(r"[,;\n]", text) if word.strip())
    if len(found) > MOST_PATTERNS:
        raise UserError(f"There are {len(found):,} patterns of layers, more than {MOST_PATTERNS:,}; use * in some.")
    return tuple(found)


def layers_of(pattern: str, layers: Sequence[Placed]) -> tuple[str, ...]:
    """Names of the layers that a pattern means: a path with all under it, a kind, "block 3", "blocks 0-4".

    "*" stands for any text and "?" for any character in paths and kinds; kinds may be written in small letters.

    Args:
        pattern: as `read_layer_patterns` returns them.
        layers: of the model, in its order.

    Raises:
        UserError: it means none of them; says what there is.
    """
    blocks = _BLOCKS.fullmatch(pattern)
    if blocks:
        first, last = int(blocks[1]), int(blocks[2] or blocks[1])
        found = [layer.name for layer in layers if first <= layer.block <= last and layer.place.startswith("block")]
    else:
        low = pattern.lower()
        found = [
            layer.name
            for layer in layers
            if path_matches(layer.name, pattern)
            or fnmatchcase(layer.kind.lower(), low)
            or fnmatchcase(layer.place.lower(), low)
        ]
    if not found:
        raise UserError(f"{pattern!r} means no prunable layer of this model; {_choices(layers)}")
    return tuple(found)


def _checked(word: str) -> str:
    word = " ".join(word.replace("–", "-").split())
    if len(word) > _MOST_CHARACTERS or not _GOOD.fullmatch(word):
        raise UserError(
            f"{brief(word)} names no layers; write a name, a kind such as adaLN, block 3, blocks 0-4, or a pattern "
            "with * and ?."
        )
    return word


def _choices(layers: Sequence[Placed]) -> str:
    kinds = {layer.kind for layer in layers}
    ordered = [kind for kind in KINDS if kind in kinds] + sorted(kinds - set(KINDS))
    numbers = [layer.block for layer in layers if layer.place.startswith("block")]
    blocks = f", blocks {min(numbers)}-{max(numbers)}" if numbers else ""
    example = layers[0].name if layers else "transformer_blocks.0.attn.to_q"
    return f"there are the kinds {', '.join(ordered)}{blocks}, and names such as {example}."
