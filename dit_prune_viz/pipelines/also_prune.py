"""Matrices that stay dense by the paper's rule and may be pruned by request: their names, and patterns of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.denoisers import path_inside
from dit_prune_viz.pipelines.dense_parts import reason_of

_MOST_PATTERNS, _MOST_CHARACTERS = 1000, 200
_NAMED = 12
"""Offers that a sentence lists."""


@dataclass(frozen=True)
class Offer:
    """Dense matrices that can be pruned by one pattern.

    Attributes:
        pattern: a path that all of them stand under, "*" for the number of a block.
        reason: why they are dense, as in `DensePart`.
        weights: how many they have together.
        layers: how many they are.
    """

    pattern: str
    reason: str
    weights: int
    layers: int


def read_patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    """Patterns of module paths, each once and sorted; a text holds several between commas or spaces.

    Raises:
        UserError: something that is no text, very many patterns, or a very long one.
    """
    texts = [patterns] if isinstance(patterns, str) else patterns
    try:
        words = [word.removesuffix(".weight") for text in texts for word in re.split(r"[,;\s]+", text) if word]
    except TypeError:
        raise UserError(
            f"Layers to prune as well are named by paths such as 'adaln_single.linear', not by {brief(patterns)}."
        ) from None
    if len(words) > _MOST_PATTERNS or any(len(word) > _MOST_CHARACTERS for word in words):
        raise UserError(
            f"Layers to prune as well are named by at most {_MOST_PATTERNS:,} patterns of at most {_MOST_CHARACTERS} "
            "characters; use * in some."
        )
    return tuple(sorted(set(words)))


def add_also_prune_option(parser: argparse.ArgumentParser) -> None:
    """Add --also-prune to a command."""
    parser.add_argument(
        "--also-prune",
        action="append",
        default=[],
        metavar="PATTERN",
        help="prune layers that are dense by the paper's rule as well: a path such as adaln_single, or with * in it; "
        "may be given several times",
    )


def matching(
    patterns: Iterable[str], dense: Mapping[str, tuple[int, int]], prunable: Collection[str], stacks: Collection[str]
) -> frozenset[str]:
    """The dense matrices that patterns name: "*" is any text, and a path is everything under it.

    Args:
        patterns: as `read_patterns` returns them.
        dense: name of each matrix that is dense by the paper's rule → (d_out, d_in).
        prunable: names of the others.
        stacks: paths of the lists of blocks.

    Raises:
        UserError: a pattern matches none; says which there are.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = {name for name in dense if path_matches(name, pattern)}
        if not names:
            problem = "prunable already" if any(path_matches(name, pattern) for name in prunable) else "no layer's name"
            raise UserError(f"{brief(pattern)} is {problem}; {_choices(offers(dense, stacks))}")
        found |= names
    return frozenset(found)


def offers(dense: Mapping[str, tuple[int, int]], stacks: Collection[str]) -> tuple[Offer, ...]:
    """Patterns for all of these matrices, as short as they can be while all that one matches is dense for one reason.

    Those of two denoisers with the same path are one offer.

    Args:
        dense: name of each matrix that is dense by the paper's rule → (d_out, d_in).
        stacks: paths of the lists of blocks.

    Returns:
        The offers, the largest first.
    """
    prefixes = tuple(f"{stack}." for stack in stacks)
    reasons = {name: reason_of(f"{name}.weight", 2, name.startswith(prefixes)) for name in dense}
    paths = {name: re.sub(r"\.\d+(?=\.)", ".*", path_inside(name)) for name in dense}
    below: dict[str, set[str]] = {}  # path → reasons of all under it
    for name, path in paths.items():
        for parent in _parents(path):
            below.setdefault(parent, set()).add(reasons[name])
    found: dict[str, Offer] = {}
    for name, path in paths.items():
        stack = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        inside = path_inside(stack).count(".") + 1 if stack else 0
        # In a block only what embeds, by its name: all else there is prunable as it is.
        found_at = (one for one in _parents(path)[inside:] if len(below[one]) == 1 and (not inside or "emb" in one))
        shortest = next(found_at)
        weights, known = dense[name][0] * dense[name][1], found.get(shortest)
        found[shortest] = Offer(
            shortest, reasons[name], weights + (known.weights if known else 0), 1 + (known.layers if known else 0)
        )
    return tuple(sorted(found.values(), key=lambda offer: (-offer.weights, offer.pattern)))


def _parents(path: str) -> list[str]:
    """ "a", "a.b", "a.b.c" of "a.b.c"."""
    parts = path.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def path_matches(name: str, pattern: str) -> bool:
    """Whether a module's path fits a pattern, or stands under a path that does; "*" is any text.

    Of two denoisers, a pattern without the name of one means both.
    """
    return any(fnmatchcase(path, asked) for path in {name, path_inside(name)} for asked in (pattern, f"{pattern}.*"))


def _choices(found: tuple[Offer, ...]) -> str:
    if not found:
        return "this transformer has no layers that could be pruned as well."
    more = len(found) - _NAMED
    names = [offer.pattern for offer in found[:_NAMED]]
    return f"choose from {', '.join(names)}{f' and {more} more' if more > 0 else ''}."
