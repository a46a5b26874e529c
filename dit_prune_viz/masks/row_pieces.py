"""Large tables piece by piece: what a processor's cache holds is read from memory once, however many steps follow."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

_ALIGNED = 4096
"""Pieces hold a multiple of so many values: vector instructions and threads part them as they part the whole table."""

PIECE = 1 << 20
"""About how many values a piece has."""


def row_pieces(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of several tables, some at a time.

    What is computed value by value comes out bit for bit as from the whole tables.

    Args:
        tables: of as many rows each; the first one's shape (r, c) and device decide. Tables of few values, those on a
            GPU, and those that do not part evenly come whole.

    Yields:
        A view of each table, the same rows of all.
    """
    first = tables[0]
    height = _height(first)
    if height >= len(first):
        yield tables
        return
    for start in range(0, len(first), height):
        yield tuple(table[start : start + height] for table in tables)


def _height(table: Tensor) -> int:
    """Rows of a piece."""
    if table.ndim != 2 or table.device.type != "cpu" or table.numel() % _ALIGNED or table.numel() <= PIECE:
        return max(1, len(table))
    step = _ALIGNED // math.gcd(_ALIGNED, table.shape[1])
    height = max(step, PIECE // table.shape[1] // step * step)
    while len(table) % height == 1:  # torch adds up a lone row in another order
        height += step
    return height
