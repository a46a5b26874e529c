"""Kernels that choose the k smallest of float32 values; `order_gpu` puts them together.

Values are compared as integers of the same order, so that halving the interval between two of them ends after 32 steps.
A row of moderate length is chosen from by one program, on the chip. Of a longer table, a sample says between which two
keys the k-th lies in all likelihood; the first reading counts what lies between them by intervals, the second writes
the mask and lists the few keys of the interval with the k-th, which one program then settles.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

INTERVALS = 1 << 11

LISTED = 1 << 14
"""Keys of one interval that a program settles; there are more where ties are plenty, or a table is huge."""

# A row of the table of tables, int64: addresses of values and mask, how many values, and k.
_VALUES, _KEPT, _N, _K, _COLUMNS = (tl.constexpr(place) for place in range(5))

# What the kernels tell each other and the caller about a table, int32.
LOW, HIGH, SHIFT, BELOW, ROOM, FOUND, NEXT, ODD, NUMBERS = range(9)
_LOW, _HIGH, _SHIFT, _BELOW, _ROOM = (tl.constexpr(place) for place in (LOW, HIGH, SHIFT, BELOW, ROOM))
_FOUND, _NEXT, _ODD, _NUMBERS = (tl.constexpr(place) for place in (FOUND, NEXT, ODD, NUMBERS))

# The key of +inf; that of −inf is −1 − this one, and NaN lies beyond either.
_INFINITE = tl.constexpr(0x7F800000)
_LEAST, _GREATEST = tl.constexpr(-(2**31)), tl.constexpr(2**31 - 1)
_SAMPLE, _TILE = tl.constexpr(1 << 13), tl.constexpr(1 << 12)
_INTERVALS, _LISTED = tl.constexpr(INTERVALS), tl.constexpr(LISTED)
_MARGIN = tl.constexpr(4.0)  # standard deviations of the sample's rank on either side
_NOWHERE = tl.constexpr(2**62)


def value_above(key: int) -> float:
    """The least float32 whose key is greater, +inf at most."""
    key = min(max(key, -1 - 0x7F800000) + 1, 0x7F800000)
    key += key == -1  # that of −0, which has the key of 0
    return float(np.array(key if key >= 0 else key ^ 0x7FFFFFFF, np.int32).view(np.float32))


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
def _narrow(keys, low, high, count, k):
    """(edge, count): `count` of `keys`, at least k, are up to the edge, and more only for ties at it.

    All that matter of `keys` lie from low to high, `count` of them.
    """
    while (low < high) & (count != k):
        middle = _between(low, high)
        fewer = tl.sum((keys <= middle).to(tl.int32))
        if fewer >= k:
            high = middle
            count = fewer
        else:
            low = middle + 1
    return high, count


@triton.jit(do_not_specialize=["odd", "k"])  # or every other k would be compiled anew
def keep_rows(values, kept, odd, c, k, SIZE: tl.constexpr):
    """A row (c,) per program, 0 < k < c ≤ SIZE: kept is False at its k smallest, odd 1 if one is NaN or infinite."""
    start = tl.program_id(0).to(tl.int64) * c
    at = tl.arange(0, SIZE)
    inside = at < c
    key = tl.where(inside, _key(tl.load(values + start + at, mask=inside, other=0.0)), _GREATEST)
    low, high = tl.min(key), tl.max(tl.where(inside, key, _LEAST))
    if _is_odd(low) | _is_odd(high):
        tl.store(odd, 1)
    edge, upto = _narrow(key, low, high, c, k)
    gone = key <= edge
    if upto > k:
        equal = key == edge
        ties = equal.to(tl.int32)
        gone = (key < edge) | (equal & (tl.cumsum(ties) <= k - (upto - tl.sum(ties))))
    tl.store(kept + start + at, ~gone, mask=inside)


@triton.jit
def _table(tables, number):
    """(values, kept, n, k) of a table."""
    row = tables + number * _COLUMNS
    values = tl.load(row + _VALUES).to(tl.pointer_type(tl.float32))
    kept = tl.load(row + _KEPT).to(tl.pointer_type(tl.int8))
    return values, kept, tl.load(row + _N).to(tl.int32), tl.load(row + _K).to(tl.int32)


@triton.jit
def enclose(tables, numbers):
    """A table per program: notes low and high between which a sample says that the k-th lies, low < it ≤ high, and by
    how many bits a distance from low is shifted to give one of the intervals."""
    values, _, n, k = _table(tables, tl.program_id(0))
    # An odd stride meets all columns of a table, unless it divides their number.
    stride = ((n + _SAMPLE - 1) // _SAMPLE) | 1
    drawn = tl.arange(0, _SAMPLE)
    size = (n + stride - 1) // stride
    there = drawn < size
    key = tl.where(there, _key(tl.load(values + drawn * stride, mask=there, other=0.0)), _GREATEST)
    share = k / n
    margin = _MARGIN * tl.sqrt(size * share * ((n - k) / n)) + 2
    slack = (margin * 0.25).to(tl.int32)
    fewer = tl.floor(size * share - margin).to(tl.int32)
    more = tl.ceil(size * share + margin).to(tl.int32)
    # At most `fewer` are up to low and more up to low_end; at least `more` are up to high and less up to high_start.
    # Where there cannot be so few or so many, the end of all keys takes their place below.
    low = tl.full((), _LEAST, tl.int32)
    high_start = low
    low_end = tl.max(tl.where(there, key, _LEAST))
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
    low = tl.where(fewer <= 0, _LEAST, low)
    high = tl.where(more >= size, _GREATEST, high)
    reach = high.to(tl.int64) - low.to(tl.int64) - 1
    shift = 0
    while (reach >> shift) >= _INTERVALS:
        shift += 1
    numbers += tl.program_id(0) * _NUMBERS
    tl.store(numbers + _LOW, low)
    tl.store(numbers + _HIGH, high)
    tl.store(numbers + _SHIFT, shift)


@triton.jit
def tally(tables, numbers, intervals):
    """Programs (p, tables): how many keys are up to low, and how many in every interval from there to high."""
    values, _, n, _ = _table(tables, tl.program_id(1))
    numbers += tl.program_id(1) * _NUMBERS
    intervals += tl.program_id(1) * _INTERVALS
    low, high, shift = tl.load(numbers + _LOW), tl.load(numbers + _HIGH), tl.load(numbers + _SHIFT)
    below = tl.zeros((_TILE,), tl.int32)
    odd = below
    for start in range(tl.program_id(0) * _TILE, n, tl.num_programs(0) * _TILE):
        at = start + tl.arange(0, _TILE)
        inside = at < n
        key = _key(tl.load(values + at, mask=inside, other=0.0))
        odd |= _is_odd(key).to(tl.int32)
        below += (inside & (key <= low)).to(tl.int32)
        within = inside & (key > low) & (key <= high)
        place = ((key - low - 1).to(tl.uint32, bitcast=True) >> shift).to(tl.int32)
        tl.atomic_add(intervals + place, 1, mask=within, sem="relaxed")
    total = tl.sum(below)
    if total > 0:
        tl.atomic_add(numbers + _BELOW, total, sem="relaxed")
    if tl.max(odd) > 0:
        tl.store(numbers + _ODD, 1)


@triton.jit
def locate(tables, numbers, intervals):
    """A table per program: low and high become those of the interval with the k-th, found how many are in it and room
    which of them that is; not positive where the sample misled."""
    _, _, _, k = _table(tables, tl.program_id(0))
    numbers += tl.program_id(0) * _NUMBERS
    upto = tl.cumsum(tl.load(intervals + tl.program_id(0) * _INTERVALS + tl.arange(0, _INTERVALS)))
    rank = k - tl.load(numbers + _BELOW)
    before = upto < rank
    first = tl.max(tl.where(before, upto, 0))
    high, shift = tl.load(numbers + _HIGH).to(tl.int64), tl.load(numbers + _SHIFT).to(tl.int64)
    start = tl.minimum(tl.load(numbers + _LOW) + (tl.sum(before.to(tl.int64)) << shift), high)
    end = tl.minimum(start + (1 << shift), high)
    tl.store(numbers + _LOW, start.to(tl.int32))
    tl.store(numbers + _HIGH, end.to(tl.int32))
    tl.store(numbers + _FOUND, tl.min(tl.where(before, _GREATEST, upto)) - first)
    tl.store(numbers + _ROOM, tl.where(rank > tl.max(upto), 0, rank - first))


@triton.jit
def write(tables, numbers, listed):
    """Programs (p, tables): kept is False up to the end of the interval with the k-th; what is in it goes on a list if
    there is place for all, its distance from low above its position."""
    values, kept, n, _ = _table(tables, tl.program_id(1))
    numbers += tl.program_id(1) * _NUMBERS
    listed += tl.program_id(1) * _LISTED
    low, high = tl.load(numbers + _LOW), tl.load(numbers + _HIGH)
    listing = tl.load(numbers + _FOUND) <= _LISTED
    for start in range(tl.program_id(0) * _TILE, n, tl.num_programs(0) * _TILE):
        at = start + tl.arange(0, _TILE)
        inside = at < n
        key = _key(tl.load(values + at, mask=inside, other=0.0))
        tl.store(kept + at, (key > high).to(tl.int8), mask=inside)
        if listing:
            within = inside & (key > low) & (key <= high)
            slot = tl.atomic_add(numbers + _NEXT + tl.zeros((_TILE,), tl.int32), 1, mask=within, sem="relaxed")
            item = ((key - low).to(tl.uint32, bitcast=True).to(tl.int64) << 32) | at
            tl.store(listed + slot, item, mask=within)


@triton.jit
def settle(tables, numbers, listed):
    """A table per program: of those on the list as many of the smallest as there is room for are left out, of equal
    ones the first; the others are kept."""
    _, kept, _, _ = _table(tables, tl.program_id(0))
    numbers += tl.program_id(0) * _NUMBERS
    n, room = tl.load(numbers + _NEXT), tl.load(numbers + _ROOM)
    at = tl.arange(0, _LISTED)
    there = at < n
    item = tl.load(listed + tl.program_id(0) * _LISTED + at, mask=there, other=_NOWHERE)
    edge, _ = _narrow(item, tl.min(item), tl.max(tl.where(there, item, 0)), n, room)
    tl.store(kept + (item & 0xFFFFFFFF), tl.full((_LISTED,), 1, tl.int8), mask=there & (item > edge))
