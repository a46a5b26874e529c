"""A table from its kept values, and back: between a pruned layer and the weights it runs with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.spread_gpu import spread_on_gpu
from dit_prune_viz.pipelines.bits import as_integers

_BLOCK = 1 << 13
"""Bytes of mask at a time: so few weights that they and their places stay near the processor."""


def spread(mask: PackedMask, values: Tensor, *, threads: int = 1, out: Tensor | None = None) -> Tensor:
    """The table that has the values where the mask keeps, and zeros elsewhere.

    On the CPU values are copied to the places of the mask's ones, which has no branches: random masks make those cost
    more than all else.

    Args:
        mask: of a table (d_out, d_in).
        values: (kept,), row by row, on the mask's device.
        threads: share the work on the CPU.
        out: contiguous, of as many values of the same dtype and device: written to in the place of a new table.

    Returns:
        (d_out, d_in) of the values' dtype and device.
    """
    table = torch.empty(mask.shape, dtype=values.dtype, device=values.device) if out is None else out
    if values.device.type != "cpu":
        if not spread_on_gpu(mask, values, table):
            table.view(mask.shape).zero_().masked_scatter_(mask.unpack(), values)
        return table.view(mask.shape)
    # NumPy, not torch: its threads would wait for each other inside of these.
    into, source = _integers(table), _integers(values.contiguous())

    def fill(first: int, bits: np.ndarray, start: int) -> None:
        for piece, places in _places(bits):
            own = into[8 * first + piece.start : 8 * first + piece.stop]
            own[:] = 0
            own[places] = source[start : start + len(places)]
            start += len(places)

    _share(mask, fill, threads)
    return table.view(mask.shape)


def gather(mask: PackedMask, table: Tensor) -> Tensor:
    """The values (kept,) of a table (d_out, d_in) on the CPU that the mask keeps, row by row."""
    source = _integers(table.contiguous())
    values = np.empty(mask.kept, source.dtype)
    start = 0
    for piece, places in _places(mask.bits.numpy()):
        stop = start + len(places)
        values[start:stop] = source[piece][places]
        start = stop
    return torch.from_numpy(values).view(table.dtype)


def _integers(table: Tensor) -> np.ndarray:
    """The bits of a contiguous table, one dimension, in its own memory."""
    return as_integers(table.detach().view(-1)).numpy()


def _places(bits: np.ndarray):
    """(slice of weights, int64 places of ones in it) of every piece of a mask's bytes."""
    for first in range(0, len(bits), _BLOCK):
        ones = np.unpackbits(bits[first : first + _BLOCK], bitorder="little")
        yield slice(8 * first, 8 * first + len(ones)), np.flatnonzero(ones.view(bool))


def _share(mask: PackedMask, fill, threads: int) -> None:
    """Call `fill` with (first byte, bytes, ones before them) of a mask, for as many parts as there are threads."""
    bits = mask.bits.numpy()
    if threads < 2 or len(bits) < 2 * _BLOCK:
        fill(0, bits, 0)
        return
    parts = np.array_split(np.arange(0, len(bits), _BLOCK), threads)
    edges = [part[0] for part in parts if len(part)] + [len(bits)]
    own = [bits[first:last] for first, last in pairwise(edges)]
    before = np.cumsum([0] + [int(np.bitwise_count(part).sum(dtype=np.int64)) for part in own])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, edges, own, before))
