"""Exact choice of the k smallest values per row, without a full sort."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.smallest_cpu import bracket, smallest_on_cpu

_MANY = 1 << 17
"""So many values of a row are a sample of it; rows of no more are sorted out whole."""


def smallest(rows: Tensor, k: int | Tensor) -> Tensor:
    """Bool (r, c), True at the k smallest values of every row of `rows` (r, c); of equal values the first ones.

    k is one number for all rows, or an int64 tensor (r,). The values are finite, or +inf where they never count among
    the k smallest.
    """
    r, c = rows.shape
    if isinstance(k, int):
        if k == 0 or k == c:
            return torch.full((r, c), k > 0, device=rows.device)
        if not rows.is_cuda:
            return torch.from_numpy(smallest_on_cpu(rows.detach().cpu().numpy(), k)).to(rows.device)
        edge = _kth(rows, k)
        k = torch.full((r,), k, device=rows.device)
    else:
        k = k.to(rows.device)
        edge = _kth_each(rows, k)
    chosen = rows <= edge[:, None]
    # Ties at the edge choose too many; only rows where that happened are looked at again.
    tied = torch.nonzero(chosen.sum(1) > k).flatten()
    if tied.numel():
        values, limit = rows[tied], edge[tied, None]
        equal = values == limit
        room = k[tied, None] - (values < limit).sum(1, keepdim=True)
        chosen[tied] = (values < limit) | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return chosen


def _kth(rows: Tensor, k: int) -> Tensor:
    """The k-th smallest value of every row, k from 1, on a GPU."""
    return rows.kthvalue(k, dim=1).values if len(rows) > 1 else _kth_of_one(rows[0], k)


def _kth_of_one(values: Tensor, k: int) -> Tensor:
    """The k-th smallest of `values` (n,) as (1,), k from 1: a GPU's kthvalue would leave one row to one processor.

    A sample of many values brackets it; then only what lies in the bracket is sorted.
    """
    if len(values) <= _MANY:
        return values.sort().values[k - 1][None]
    low, high = bracket(values[:: max(1, len(values) // _MANY) | 1].sort().values, k / len(values))
    before = int((values < low).sum())
    within = values[(values >= low) & (values <= high)]
    if not before < k <= before + len(within):
        before, within = 0, values
    return within.sort().values[k - before - 1][None]


def _kth_each(rows: Tensor, k: Tensor) -> Tensor:
    """The k-th smallest value of every row, k (r,) from 0; −inf where k is 0."""
    if rows.is_cuda:
        ordered = rows.sort(dim=1).values
    else:
        ordered = torch.from_numpy(np.sort(rows.cpu().numpy(), axis=1)).to(rows.device)
    edge = ordered.gather(1, (k - 1).clamp(min=0)[:, None]).flatten()
    return edge.masked_fill(k == 0, -torch.inf)
