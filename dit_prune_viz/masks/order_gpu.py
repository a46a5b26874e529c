"""The k smallest values on a CUDA GPU in two readings: Triton kernels that bracket the k-th from a sample."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

_LONGEST = 1 << 14
"""Values of a row that one program holds in its registers."""

_PER_SAMPLE = 16
"""A long row is at least so many times its sample."""

_NARROWER = 16
"""A sample leaves at least so many times fewer values."""

_SPACE = 8
"""One in so many values has a place between the brackets; where more are there, ties are plenty, and torch sorts."""


def keep_greatest(rows: Tensor, k: int) -> Tensor | None:
    """Bool (r, c), False at the k smallest values of every row of `rows` (r, c) float32, of equal ones the first.

    None where this way does not lead there, and the caller has to take another: the rows are not on a CUDA GPU or lie
    scattered in its memory, Triton is not installed, values are NaN or infinite, rows are of a length that does not
    pay, or the sample of a row misled.
    """
    r, c = rows.shape
    # Numbers of 32 bits count the values, and step beyond the last ones.
    if not rows.is_cuda or rows.dtype != torch.float32 or not rows.is_contiguous() or not 0 < k < c < 2**30:
        return None
    kernels = _kernels()
    if kernels is None:
        return None
    with torch.cuda.device(rows.device):
        if 256 <= c <= _LONGEST and r >= 32:
            return _of_rows(kernels, rows, k)
        if r > 1 or c < _PER_SAMPLE * kernels.SAMPLE:
            return None
        return _of_one(kernels, rows, k, 2 * torch.cuda.get_device_properties(rows.device).multi_processor_count)


@cache
def _kernels() -> ModuleType | None:
    """The kernels; None where they cannot be used: Triton is missing, as on Windows, it finds no C compiler, or it does
    not know the GPU, each of which it says in its own way."""
    try:
        from dit_prune_viz.masks import order_triton

        _of_rows(order_triton, torch.zeros((1, 256), device="cuda"), 1)
    except Exception:
        return None
    return order_triton


def _of_rows(kernels: ModuleType, rows: Tensor, k: int) -> Tensor | None:
    r, c = rows.shape
    kept, odd = torch.empty_like(rows, dtype=torch.bool), torch.zeros(1, dtype=torch.int32, device=rows.device)
    size = 1 << (c - 1).bit_length()
    kernels.keep_rows[(r,)](rows, kept, odd, c, k, SIZE=size, num_warps=max(1, size // 2048))
    return None if int(odd) else kept


def _of_one(kernels: ModuleType, row: Tensor, k: int, programs: int) -> Tensor | None:
    n, device = row.shape[1], row.device
    kept = torch.empty_like(row, dtype=torch.bool)
    found = torch.zeros(kernels.NUMBERS, dtype=torch.int32, device=device)
    space = n // _SPACE
    between = torch.empty((2, space), dtype=torch.int32, device=device)
    left, source, level = n, row, 0
    while level == 0 or (left > 2 * kernels.SAMPLE and level < kernels.LEVELS):
        target = between[level % 2]
        kernels.gather[(programs,)](source, n, target, space, found, k, LEVEL=level, num_warps=kernels.WARPS)
        left, source, level = left // _NARROWER, target, level + 1
    kernels.find_edge[(1,)](source, space, found, k, LEVEL=level, num_warps=32)
    kernels.write[(-(-n // kernels.TILE),)](row, n, found, kept, num_warps=kernels.WARPS)
    numbers = found.cpu().numpy()
    ties, room, odd = (int(numbers[place]) for place in (kernels.TIES, kernels.ROOM, kernels.ODD))
    if odd or not 0 < room <= ties:
        return None
    if room < ties:
        value = float(kernels.value_of(numbers[kernels.EDGE]))
        kept.view(-1)[torch.nonzero(row.view(-1) == value).flatten()[room:]] = True
    return kept
