"""The shortest text that `sparsity_text.read_sparsities` reads as given sparsities, as far as simple ways find it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from dit_prune_viz.masks.counts import removed
from dit_prune_viz.pruning.sparsity_text import ALL, Stacked, block_layers

_BASES = 3
"""So many of the commonest sparsities are tried as that of all layers."""
_MOST_DIGITS = 14
_ORDERS = ((), ("block",), ("kind",), ("block", "kind"), ("kind", "block"))
"""What may be said of whole blocks and kinds, before single ones of their layers are named."""


class Shaped(Stacked, Protocol):
    """A layer with its names and its shape."""

    @property
    def shape(self) -> tuple[int, int]: ...


Entry = tuple[str, str]
"""Which layers, and their percentage."""


def write_sparsities(sparsities: Mapping[str, float], layers: Sequence[Shaped]) -> str:
    """A text of the sparsities of all layers: a common one first, then blocks and kinds that differ, then the rest.

    A percentage has as many digits as the layers' counts of removed weights need, so that what is read is pruned
    alike.

    Args:
        sparsities: layer → 0–1, of every layer.
        layers: of the model, in its order.

    Returns:
        The text, "" for no layers.
    """
    if not layers:
        return ""
    shares = _percentages(sparsities, layers)
    commonest = [share for share, _ in Counter(shares.values()).most_common(_BASES)]
    texts = (
        ", ".join(f"{words}:{share}" for words, share in _entries(order, base, shares, layers))
        for base in commonest
        for order in _ORDERS
    )
    return min(texts, key=len)


def percentage(sparsity: float, shapes: Iterable[tuple[int, int]]) -> str:
    """A sparsity, 0–1, in per cent: the fewest digits with which layers of these shapes lose as many weights."""
    sizes = {size for rows, columns in shapes for size in (rows, columns, rows * columns)}
    for digits in range(_MOST_DIGITS):
        text = f"{100 * sparsity:.{digits}f}"
        share = float(text) / 100
        if share <= 1 and all(removed(size, share) == removed(size, sparsity) for size in sizes):
            break
    return text.rstrip("0").rstrip(".") if "." in text else text


def _percentages(sparsities: Mapping[str, float], layers: Sequence[Shaped]) -> dict[str, str]:
    """Layer → its percentage; layers of one sparsity have one text."""
    alike: dict[float, list[Shaped]] = {}
    for layer in layers:
        alike.setdefault(sparsities[layer.name], []).append(layer)
    return {
        layer.name: text
        for sparsity, group in alike.items()
        for text in [percentage(sparsity, (layer.shape for layer in group))]
        for layer in group
    }


def _entries(order: Iterable[str], base: str, shares: Mapping[str, str], layers: Sequence[Shaped]) -> list[Entry]:
    """What is said of all layers, of blocks and kinds in this order, and of the layers that are left."""
    said = dict.fromkeys(shares, base)
    entries = [(ALL, base)]
    placed = block_layers(layers)
    for axis in order:
        found: dict[object, str] = {}
        groups: dict[object, list[Shaped]] = {}
        for layer in placed if axis == "block" else layers:
            groups.setdefault(getattr(layer, axis), []).append(layer)
        for key, group in groups.items():
            share = _commonest(shares[layer.name] for layer in group)
            right = sum(shares[layer.name] == said[layer.name] for layer in group)
            if sum(shares[layer.name] == share for layer in group) > right:
                found[key] = share
                said |= dict.fromkeys((layer.name for layer in group), share)
        entries += _joined(found, sorted(groups)) if axis == "block" else list(found.items())
    return entries + _rest(said, shares, layers)


def _commonest(shares: Iterable[str]) -> str:
    return Counter(shares).most_common(1)[0][0]


def _joined(found: Mapping[int, str], blocks: Sequence[int]) -> list[Entry]:
    """Entries of blocks; neighbours of one percentage become a range."""
    runs = ((share, list(run)) for share, run in itertools.groupby(blocks, key=found.get) if share is not None)
    return [(_range(run), share) for share, run in runs]


def _range(blocks: Sequence[int]) -> str:
    return str(blocks[0]) if len(blocks) == 1 else f"{blocks[0]}-{blocks[-1]}"


def _rest(said: Mapping[str, str], shares: Mapping[str, str], layers: Sequence[Shaped]) -> list[Entry]:
    """Entries for the layers of which the ones before say something wrong: of a kind in some blocks, else by name."""
    wrong = {layer.name for layer in layers if said[layer.name] != shares[layer.name]}
    entries: list[Entry] = []
    cells: dict[str, dict[int, list[str]]] = {}
    for layer in block_layers(layers):
        cells.setdefault(layer.kind, {}).setdefault(layer.block, []).append(layer.name)
    for kind, row in cells.items():
        uniform = {
            block: shares[names[0]] for block, names in row.items() if len({shares[name] for name in names}) == 1
        }
        for share, run in itertools.groupby(sorted(row), key=uniform.get):
            blocks = list(run)
            off = [block for block in blocks if wrong.intersection(row[block])]
            if share is None or not off:
                continue
            first, last = off[0], off[-1]
            span = [block for block in blocks if first <= block <= last]
            entries.append((f"{kind} {_range(span)}", share))
            wrong.difference_update(name for block in span for name in row[block])
    return entries + [(layer.name, shares[layer.name]) for layer in layers if layer.name in wrong]
