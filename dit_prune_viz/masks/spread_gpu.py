"""A table from its kept values on a CUDA GPU, in one reading of mask and values."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from dit_prune_viz.masks.packed_mask import TILE, PackedMask
from dit_prune_viz.masks.triton_kernels import working_kernels
from dit_prune_viz.pipelines.bits import as_integers


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
    into, source = as_integers(table.view(-1)), as_integers(values.contiguous())
    grid = (-(-mask.weights // TILE),)
    kernels.spread_tile[grid](mask.bits, mask.starts, source, into, mask.weights, TILE=TILE, num_warps=4)


@cache
def _kernels() -> ModuleType | None:
    """The kernel; None where it cannot be used."""

    def attempt(kernels: ModuleType) -> None:
        bits = torch.full((4,), 5, dtype=torch.uint8, device="cuda")
        values = torch.ones(8, dtype=torch.float32, device="cuda")
        _launch(kernels, PackedMask(bits, (4, 8)), values, torch.empty(4, 8, device="cuda"))

    return working_kernels("dit_prune_viz.masks.spread_triton", attempt, "weights are unpacked")
