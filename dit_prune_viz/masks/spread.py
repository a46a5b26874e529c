"""A table from its kept values: the way back from a pruned layer to the weights it runs with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.packed_mask import PackedMask

_BLOCK = 1 << 17
"""Bytes of mask at a time: a million weights, which stay in a core's cache."""

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def spread(mask: PackedMask, values: Tensor, *, threads: int = 1) -> Tensor:
    """The table that has the values where the mask keeps, and zeros elsewhere.

    On the CPU values are copied to the places of the mask's ones, which has no branches: random masks make those cost
    more than all else.

    Args:
        mask: of a table (d_out, d_in).
        values: (kept,), row by row, on the mask's device.
        threads: share the work on the CPU.

    Returns:
        A new (d_out, d_in) of the values' dtype and device.
    """
    if values.device.type != "cpu":
        table = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
        return table.masked_scatter_(mask.unpack(), values)
    bits = mask.bits.numpy()
    starts = np.arange(0, len(bits), _BLOCK)
    kept = np.add.reduceat(np.bitwise_count(bits), starts, dtype=np.int64) if len(bits) else np.zeros(0, np.int64)
    ends = np.cumsum(kept)
    table = torch.zeros(mask.weights, dtype=values.dtype)
    whole = _INTEGERS[values.dtype.itemsize]
    into, source = table.view(whole), values.contiguous().view(whole)

    def fill(block: int) -> None:
        first = starts[block]
        places = torch.from_numpy(np.flatnonzero(np.unpackbits(bits[first : first + _BLOCK], bitorder="little")))
        own = source[ends[block] - kept[block] : ends[block]]
        into[8 * first : 8 * (first + _BLOCK)].index_copy_(0, places, own)

    if threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(len(starts))))
    else:
        for block in range(len(starts)):
            fill(block)
    return table.view(mask.shape)
