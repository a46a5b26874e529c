"""A table from its kept values on a CUDA GPU, in one reading of mask and values."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from dit_prune_viz.masks.packed_mask import TILE, PackedMask

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def spread_on_gpu(mask: PackedMask, values: Tensor, table: Tensor) -> bool:
    """Fill a table with the values where the mask keeps and zeros elsewhere, if Triton can be used.

    Args:
        mask: of the table, on a GPU.
        values: (kept,), row by row, on the same GPU.
        table: contiguous, of their dtype; written to.

    Returns:
        Whether it was done; where not, nothing has changed.
    """
    if not values.is_cuda or not mask.weights:
        return False
    with torch.cuda.device(values.device):
        kernels = _kernels()
        if kernels is not None:
            _launch(kernels, mask, values, table)
    return kernels is not None


def _launch(kernels: ModuleType, mask: PackedMask, values: Tensor, table: Tensor) -> None:
    whole = _INTEGERS[values.dtype.itemsize]
    into, source = table.view(-1).view(whole), values.contiguous().view(whole)
    grid = (-(-mask.weights // TILE),)
    kernels.spread_tile[grid](mask.bits, mask.starts, source, into, mask.weights, TILE=TILE, num_warps=4)


@cache
def _kernels() -> ModuleType | None:
    """The kernel; None where it cannot be used: Triton is missing, as on Windows, or, with a warning, does not work."""
    try:
        from dit_prune_viz.masks import spread_triton

        bits = torch.full((4,), 5, dtype=torch.uint8, device="cuda")
        values = torch.ones(8, dtype=torch.float32, device="cuda")
        _launch(spread_triton, PackedMask(bits, (4, 8)), values, torch.empty(4, 8, device="cuda"))
    except ImportError:
        return None
    except Exception as error:
        warnings.warn(f"Triton cannot be used, weights are unpacked several times slower: {error}", stacklevel=2)
        return None
    return spread_triton
