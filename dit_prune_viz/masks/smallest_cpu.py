"""The k smallest values per row on a CPU: NumPy's partition, in pieces that fit the cache, on torch's threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

_CHUNK = 1 << 18
"""Values looked at in one piece."""

_SAMPLE = 1 << 16
"""How many values of a long row tell where its k-th smallest lies."""


def in_threads(work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    """`work` on every part, on as many threads as torch has; NumPy lets go of Python's lock while it computes."""
    parts, threads = list(parts), torch.get_num_threads()
    if len(parts) == 1 or threads == 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def bracket(ordered: Sequence[float], share: float) -> tuple[float, float]:
    """Two values of a greater table between which the one that ends its smallest `share` lies, from a sorted sample.

    Five standard deviations of the sample's rank wide on either side: whoever uses it still has to check.
    """
    n = len(ordered)
    middle, margin = n * share, 5 * math.sqrt(n * share * (1 - share)) + 2
    low, high = math.floor(middle - margin), math.ceil(middle + margin)
    return float(ordered[low]) if low > 0 else -math.inf, float(ordered[high]) if high < n - 1 else math.inf


def smallest_on_cpu(rows: np.ndarray, k: int) -> np.ndarray:
    """Bool (r, c), True at the k smallest values of every row of `rows` (r, c), 0 < k < c; of equal ones the first."""
    r, c = rows.shape
    if c > 4 * _SAMPLE:
        return np.stack([_of_long(row, k) for row in rows])
    chosen = np.empty((r, c), dtype=bool)
    height = max(1, _CHUNK // c)

    def work(start: int) -> None:
        chosen[start : start + height] = of_rows(rows[start : start + height], k)

    in_threads(work, range(0, r, height))
    return chosen


def of_rows(rows: np.ndarray, k: int) -> np.ndarray:
    """The same for rows that are short, or few."""
    edge = np.partition(rows, k - 1, axis=1)[:, k - 1, None]
    chosen = rows <= edge
    # Ties at the edge choose too many; only rows where that happened are looked at again.
    for row in np.flatnonzero(np.count_nonzero(chosen, axis=1) > k) if np.count_nonzero(chosen) > k * len(rows) else ():
        equal = np.flatnonzero(rows[row] == edge[row])
        chosen[row, equal[k - np.count_nonzero(rows[row] < edge[row]) :]] = False
    return chosen


def _of_long(row: np.ndarray, k: int) -> np.ndarray:
    """The same for one row (c,): a sample brackets the k-th, and only what lies in the bracket is ranked."""
    close = bracket(np.sort(row[:: max(1, len(row) // _SAMPLE) | 1]), k / len(row))
    chosen = np.empty(row.shape, dtype=bool)
    for low, high in (close, (-math.inf, math.inf)):
        work = partial(_below_and_inside, row, chosen, row.dtype.type(low), row.dtype.type(high))
        counts, at, values = zip(*in_threads(work, range(0, len(row), _CHUNK)), strict=True)
        missing, at, values = k - sum(counts), np.concatenate(at), np.concatenate(values)
        if 0 < missing <= len(at):
            break
    # What lies below the bracket is chosen for certain; of what lies inside it, the smallest.
    chosen[at] = of_rows(values[None], missing)[0] if missing < len(at) else True
    return chosen


def _below_and_inside(row: np.ndarray, chosen: np.ndarray, low: float, high: float, start: int) -> tuple:
    """Of one piece of the row: how many values lie below `low`, which are chosen; where and what lies up to `high`."""
    part, below = row[start : start + _CHUNK], chosen[start : start + _CHUNK]
    np.less(part, low, out=below)
    inside = np.flatnonzero((part <= high) > below)
    return int(np.count_nonzero(below)), inside + start, part[inside]
