"""Sparsities of layers as a short text, "0-4:30, 5-18:60, adaLN:40", and back.

A text is a list of entries between commas, semicolons or lines; each says which layers, then ":", then per cent. Where
two entries mean the same layer, the later one holds. What stands before the colon is

- blocks by the numbers that the page shows, counted over all stacks: "3", "0-4", "blocks 0-4";
- a kind: "adaLN", "mlp in", also with * and ?; with blocks behind it only the layers there: "adaLN 0-4";
- a stack by its own name or the beginning of that, with its own numbers: "single", "single 0-10", "single q 0-10";
  "double" are FLUX's other blocks;
- the name of a layer, the path of a module, or a pattern with * and ?; "all" is every layer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.denoisers import path_inside
from dit_prune_viz.pipelines.layer_patterns import Placed, layers_of, read_layer_patterns

MOST_ENTRIES = 5000
ALL = "all"
_RANGE = re.compile(r"(?:(?P<head>.*\S) )?(?P<first>\d{1,6})(?:-(?P<last>\d{1,6}))?", re.ASCII)
_NUMBER = re.compile(r"(\d{1,20}(\.\d{0,20})?|\.\d{1,20}) ?%?", re.ASCII)
_BLOCK_WORDS = ("block", "blocks")


class Stacked(Placed, Protocol):
    """A layer with its names and its stack; see `pipelines.layers.Layer`."""

    @property
    def stack(self) -> str: ...


LayerT = TypeVar("LayerT", bound=Placed)


def read_sparsities(text: str, layers: Sequence[Stacked]) -> dict[str, float]:
    """The sparsity, 0–1, of every layer that a text names; layers that it does not name are left out.

    Args:
        text: see above.
        layers: of the model, in its order.

    Raises:
        UserError: names the entry that cannot be read, that means no layer, or that is no percentage.
    """
    if not isinstance(text, str):
        raise UserError(f"Sparsities are written as 0-4:30, adaLN:40, not as {brief(text)}.")
    entries = [piece for piece in re.split(r"[,;\n]", text) if piece.strip()]
    if not entries:
        raise UserError("Write blocks, kinds or layers with a percentage each, such as 0-4:30, adaLN:40.")
    if len(entries) > MOST_ENTRIES:
        raise UserError(f"There are {len(entries):,} entries, more than {MOST_ENTRIES:,}; use ranges such as 0-4:30.")
    found: dict[str, float] = {}
    for entry in entries:
        words, sparsity = _read_entry(_plain(entry))
        found |= dict.fromkeys(named_layers(words, layers), sparsity)
    return found


def _plain(entry: str) -> str:
    """Ranges without spaces and dashes of one kind; "q · block 3" as the page writes it without its dot."""
    words = " ".join(entry.replace("–", "-").replace("·", " ").split())
    return re.sub(r"(?<=\d) ?- ?(?=\d)", "-", words)


def _read_entry(entry: str) -> tuple[str, float]:
    """What an entry names, and its sparsity 0–1."""
    parts = re.fullmatch(r"(.*?) ?[:=] ?([^:=]*)", entry)
    if parts is None or not parts[1]:
        raise UserError(f"{brief(entry)} needs layers and a sparsity; write 0-4:30 for 30 % in blocks 0 to 4.")
    number = _NUMBER.fullmatch(parts[2])
    if number is None or float(number[1]) > 100:
        raise UserError(f"{brief(entry)} has no percentage behind the colon; write a number from 0 to 100.")
    return parts[1], float(number[1]) / 100


def named_layers(words: str, layers: Sequence[Stacked]) -> list[str]:
    """Names of the layers that the part of an entry before its colon means.

    Raises:
        UserError: it means none of them.
    """
    if any(layer.name == words for layer in layers):
        return [words]
    if words.lower() == ALL:
        return [layer.name for layer in layers]
    ranged = _RANGE.fullmatch(words)
    found = _in_range(words, ranged, layers) if ranged else [layer.name for layer in _stack_and_kind(words, layers)[0]]
    # What is neither is a path or a pattern, or refused with what there is.
    return found or list(layers_of(read_layer_patterns([words])[0], layers))


def block_layers(layers: Sequence[LayerT]) -> list[LayerT]:
    """The layers that stand in blocks."""
    return [layer for layer in layers if layer.place.startswith("block")]


def _in_range(words: str, ranged: re.Match[str], layers: Sequence[Stacked]) -> list[str]:
    """The layers of "0-4", "adaLN 0-4" or "single 0-10"; none where the words before the numbers mean nothing."""
    placed = block_layers(layers)
    chosen, stack = placed, ""
    head = (ranged["head"] or "").split()
    if head and head[-1].lower() in _BLOCK_WORDS:  # "blocks 0-4", "single blocks 0-10"
        head = head[:-1]
    if head:
        chosen, stack = _stack_and_kind(" ".join(head), placed)
    if not chosen:
        return []
    first, last = int(ranged["first"]), int(ranged["last"] or ranged["first"])
    if first > last:
        raise UserError(f"{brief(words)} runs backwards; write {last}-{first}.")
    number = _number_in_stack if stack else (lambda layer: layer.block)
    greatest = max(number(layer) for layer in placed if not stack or layer.stack == stack)
    if last > greatest:
        raise UserError(f"{brief(words)}: there is no block {last}; the last one is {greatest}.")
    inside = [layer.name for layer in chosen if first <= number(layer) <= last]
    if not inside:
        there = ", ".join(map(str, sorted({number(layer) for layer in chosen})))
        raise UserError(f"{brief(words)} means no prunable layer; such layers stand in blocks {brief(there)}.")
    return inside


def _number_in_stack(layer: Stacked) -> int:
    return int(layer.name.removeprefix(f"{layer.stack}.").partition(".")[0])


def _stack_and_kind(words: str, layers: Sequence[Stacked]) -> tuple[list[Stacked], str]:
    """The layers that "adaLN", "single" or "single adaLN" mean, and the stack; none and "" for anything else."""
    parts = words.split()
    for many in range(len(parts) + 1):
        stack, kind = " ".join(parts[:many]), " ".join(parts[many:]).lower()
        path = find_stack(stack, layers) if stack else ""
        if stack and not path:
            continue
        found = [
            layer
            for layer in layers
            if (not path or layer.stack == path) and (not kind or fnmatchcase(layer.kind.lower(), kind))
        ]
        if found:
            return found, path
    return [], ""


def find_stack(word: str, layers: Sequence[Stacked]) -> str:
    """The path of the stack that a word means: all of it or its beginning; "" where none does, or several.

    Args:
        word: "single_transformer_blocks", "single transformer blocks" or "single".
        layers: of the model.
    """
    stacks = list(dict.fromkeys(layer.stack for layer in block_layers(layers)))
    low = word.lower().replace(" ", "_")
    paths = {stack: {stack.lower(), path_inside(stack).lower()} for stack in stacks}
    others = [stack for stack in stacks if not path_inside(stack).startswith("single_")]
    ways = [
        [stack for stack in stacks if low in paths[stack]],
        [stack for stack in stacks if any(path.startswith(f"{low}.") for path in paths[stack])],
        [stack for stack in stacks if any(path.startswith(f"{low}_") for path in paths[stack])],
        others if low == "double" and len(others) < len(stacks) else [],
    ]
    found = next((way for way in ways if way), [])
    return found[0] if len(found) == 1 else ""
