"""Kernels that choose the k smallest of float32 values; `order_gpu` puts them together.

Values are compared as integers of the same order, so that halving the interval between two of them ends after 32 steps.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

SAMPLE = 1 << 13
TILE = 1 << 13
WARPS = 8

LEVELS = 3
"""Gatherings at most, each from what the one before has found."""

# What the kernels tell each other and the caller: of each gathering how many values are below its bracket and how many
# inside, then the edge and what lies on it.
EDGE, TIES, ROOM, ODD, NUMBERS = range(2 * LEVELS, 2 * LEVELS + 5)

# The key of +inf; that of −inf is −1 − this one, and NaN lies beyond either.
_INFINITE = tl.constexpr(0x7F800000)
_LEAST, _GREATEST = tl.constexpr(-(2**31)), tl.constexpr(2**31 - 1)
_SAMPLE, _TILE = tl.constexpr(SAMPLE), tl.constexpr(TILE)
_EDGE, _TIES, _ROOM, _ODD = (tl.constexpr(place) for place in (EDGE, TIES, ROOM, ODD))
_MARGIN = tl.constexpr(4.0)  # standard deviations of the sample's rank on either side


def value_of(key: np.int32) -> np.float32:
    """The value that has this key."""
    return (key ^ ((key >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@triton.jit
def _key(value):
    """An int32 for every float32, in the same order; 0 and −0 are the same."""
    bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _between(low, high):
    """⌊(low + high) / 2⌋ without overflow."""
    return (low & high) + ((low ^ high) >> 1)


@triton.jit
def _is_odd(key):
    return (key >= _INFINITE) | (key <= -1 - _INFINITE)


@triton.jit
def keep_rows(values, kept, odd, c, k, SIZE: tl.constexpr):
    """A row (c,) per program, 0 < k < c ≤ SIZE: kept is False at its k smallest, odd 1 if one is NaN or infinite."""
    start = tl.program_id(0).to(tl.int64) * c
    at = tl.arange(0, SIZE)
    inside = at < c
    key = _key(tl.load(values + start + at, mask=inside, other=0.0))
    low = tl.min(tl.where(inside, key, _GREATEST))
    high = tl.max(tl.where(inside, key, _LEAST))
    if _is_odd(low) | _is_odd(high):
        tl.store(odd, 1)
    key = tl.where(inside, key, _GREATEST)
    # As many as `count` are at most `high`, fewer than k less than `low`.
    count = c
    while (low < high) & (count != k):
        middle = _between(low, high)
        fewer = tl.sum((key <= middle).to(tl.int32))
        if fewer >= k:
            high = middle
            count = fewer
        else:
            low = middle + 1
    gone = key <= high
    if count > k:
        equal = (key == high).to(tl.int32)
        room = k - (count - tl.sum(equal))
        gone = (key < high) | ((equal > 0) & (tl.cumsum(equal) <= room))
    tl.store(kept + start + at, ~gone, mask=inside)


@triton.jit
def _load(values, at, inside, LEVEL: tl.constexpr):
    key = tl.load(values + at, mask=inside, other=0)
    if LEVEL == 0:
        key = _key(key)
    return key


@triton.jit
def _bracket(key, size, share):
    """(low, high) such that the value that ends the smallest `share` of what `key` is a sample of has low < value ≤
    high, in all likelihood. The first `size` keys count; the others are the greatest there is."""
    share = tl.minimum(tl.maximum(share, 0.0), 1.0)  # beyond where the bracket before missed
    middle = size * share
    margin = _MARGIN * tl.sqrt(size * share * (1 - share)) + 2
    slack = (margin * 0.25).to(tl.int32)
    fewer = tl.floor(middle - margin).to(tl.int32)
    more = tl.ceil(middle + margin).to(tl.int32)
    # At most `fewer` are up to low and more up to low_end; at least `more` are up to high and less up to high_start.
    low = tl.min(key) - 1
    high_start = low
    low_end = tl.max(tl.where(key == _GREATEST, _LEAST, key))
    high = low_end
    below, upto = 0, size
    low_middle, high_middle = _between(low, low_end), _between(high_start, high)
    while ((low_middle != low) & (fewer - below > slack)) | ((high_middle != high_start) & (upto - more > slack)):
        both = tl.sum((key <= low_middle).to(tl.int32) + ((key <= high_middle).to(tl.int32) << 16))
        counted = both & 0xFFFF
        if counted <= fewer:
            low = low_middle
            below = counted
        else:
            low_end = low_middle
        counted = both >> 16
        if counted >= more:
            high = high_middle
            upto = counted
        else:
            high_start = high_middle
        low_middle, high_middle = _between(low, low_end), _between(high_start, high)
    return tl.where(fewer <= 0, _LEAST, low), tl.where(more >= size, _GREATEST, high)


@triton.jit
def gather(values, n, between, space, found, k, LEVEL: tl.constexpr):
    """The keys between two that a sample says enclose the k-th smallest, in no order, and how many are below them.

    LEVEL: 0 of the values themselves, (n,) float32; else of the keys that as many gatherings have left, int32.
    """
    for level in tl.static_range(LEVEL):
        k -= tl.load(found + 2 * level)
        n = tl.minimum(tl.load(found + 2 * level + 1), space)
    # An odd stride meets all columns of a table. Every program brackets by itself: they would have to wait anyway.
    stride = (n + _SAMPLE - 1) // _SAMPLE | 1
    drawn = tl.arange(0, _SAMPLE)
    there = drawn < (n + stride - 1) // stride
    sample = tl.where(there, _load(values, drawn * stride, there, LEVEL), _GREATEST)
    low, high = _bracket(sample, tl.sum(there.to(tl.int32)), k / n)
    below = tl.zeros((_TILE,), tl.int32)
    odd = below
    for start in range(tl.program_id(0) * _TILE, n, tl.num_programs(0) * _TILE):
        at = start + tl.arange(0, _TILE)
        inside = at < n
        key = _load(values, at, inside, LEVEL)
        if LEVEL == 0:
            odd |= (inside & _is_odd(key)).to(tl.int32)
        below += (inside & (key <= low)).to(tl.int32)
        within = inside & (key > low) & (key <= high)
        order = tl.cumsum(within.to(tl.int32))
        slot = tl.atomic_add(found + 2 * LEVEL + 1, tl.max(order), sem="relaxed") + order - 1
        tl.store(between + slot, key, mask=within & (slot < space))
    tl.atomic_add(found + 2 * LEVEL, tl.sum(below), sem="relaxed")
    if tl.max(odd) > 0:
        tl.store(found + _ODD, 1)


@triton.jit
def find_edge(between, space, found, k, LEVEL: tl.constexpr):
    """The key of the k-th smallest, how many have it, and how many of those are among the k smallest: the room.

    The room is 0 where a sample misled or the keys between two did not find a place."""
    n = 0
    missing = False
    for level in tl.static_range(LEVEL):
        k -= tl.load(found + 2 * level)
        n = tl.load(found + 2 * level + 1)
        missing |= (n > space) | (k < 1) | (k > n)
    n = tl.minimum(n, space)
    at = tl.arange(0, _SAMPLE)
    first = tl.load(between + at, mask=at < n, other=_GREATEST)
    low, high = tl.min(first), tl.max(tl.where(at < n, first, _LEAST))
    for start in range(_SAMPLE, n, _SAMPLE):
        inside = start + at < n
        low = tl.minimum(low, tl.min(tl.load(between + start + at, mask=inside, other=_GREATEST)))
        high = tl.maximum(high, tl.max(tl.load(between + start + at, mask=inside, other=_LEAST)))
    count = n
    while low < high:
        middle = _between(low, high)
        fewer = tl.sum((first <= middle).to(tl.int32))
        for start in range(_SAMPLE, n, _SAMPLE):
            key = tl.load(between + start + at, mask=start + at < n, other=_GREATEST)
            fewer += tl.sum((key <= middle).to(tl.int32))
        if fewer >= k:
            high = middle
            count = fewer
        else:
            low = middle + 1
    ties = tl.sum(((first == high) & (at < n)).to(tl.int32))
    for start in range(_SAMPLE, n, _SAMPLE):
        inside = start + at < n
        ties += tl.sum((inside & (tl.load(between + start + at, mask=inside, other=0) == high)).to(tl.int32))
    tl.store(found + _EDGE, high)
    tl.store(found + _TIES, ties)
    tl.store(found + _ROOM, tl.where(missing, 0, k - (count - ties)))


@triton.jit
def write(values, n, found, kept):
    """kept is False up to the edge, ties and all."""
    at = tl.program_id(0) * _TILE + tl.arange(0, _TILE)
    inside = at < n
    key = _key(tl.load(values + at, mask=inside, other=0.0))
    tl.store(kept + at, key > tl.load(found + _EDGE), mask=inside)
