"""The kernel that puts kept values where a mask keeps; `spread_gpu` launches it."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def spread_tile(bits, starts, values, table, n, TILE: tl.constexpr):
    """A tile of weights per program: the ones before it are given, those inside are counted here.

    Values and table are integers, so that every bit comes through.
    """
    tile = tl.program_id(0).to(tl.int64)
    at = tile * TILE + tl.arange(0, TILE)
    inside = at < n
    byte = tl.load(bits + (at >> 3), mask=inside, other=0).to(tl.int32)
    one = (byte >> (at & 7).to(tl.int32)) & 1
    place = tl.load(starts + tile).to(tl.int64) + tl.cumsum(one) - one
    value = tl.load(values + place, mask=inside & (one == 1), other=0)
    tl.store(table + at, value, mask=inside)
