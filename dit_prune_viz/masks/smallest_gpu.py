"""The k smallest values on a CUDA GPU in two readings, of many tables with a handful of launches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from dit_prune_viz.masks.triton_kernels import working_kernels

_LONGEST = 1 << 14
"""Values of a row that one program holds in its registers."""

_PER_PROCESSOR = 4
"""Programs that share a long table, for each processor of the GPU."""


def keep_greatest(tables: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor | None]:
    """For each of `tables` (r, c) float32 a bool tensor, False at the k smallest values of every row, k = `counts`; of
    equal ones the first.

    None in the place of a table that this way does not suit, and for which the caller has to take another: it is not on
    a CUDA GPU or lies scattered in its memory, is not of float32, Triton is not installed, values are NaN or infinite,
    nothing or all is to go, rows are of a length or number that does not pay, or the sample misled.
    """
    kept: list[Tensor | None] = [None] * len(tables)
    for device in dict.fromkeys(table.device for table in tables if table.is_cuda):
        places = [place for place, table in enumerate(tables) if table.device == device]
        with torch.cuda.device(device):
            kernels = _kernels()
            if kernels is None:
                return kept
            programs = _PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
            found = _keep(kernels, [tables[place] for place in places], [counts[place] for place in places], programs)
        for place, mask in zip(places, found, strict=True):
            kept[place] = mask
    return kept


@cache
def _kernels() -> ModuleType | None:
    """The kernels; None where they cannot be used."""

    def attempt(kernels: ModuleType) -> None:
        tables = [torch.zeros(shape, dtype=torch.float32, device="cuda") for shape in ((32, 256), (1, 256))]
        _keep(kernels, tables, [2, 2], 1)

    return working_kernels("dit_prune_viz.masks.smallest_triton", attempt, "masks are chosen")


def _keep(kernels: ModuleType, tables: Sequence[Tensor], counts: Sequence[int], programs: int) -> list[Tensor | None]:
    """`keep_greatest` of tables on one GPU. Everything is launched before the GPU is waited for, once."""
    short = [place for place, table in enumerate(tables) if _is_short(table, counts[place])]
    long = [place for place, table in enumerate(tables) if _is_long(table, counts[place])]
    if not short and not long:
        return [None] * len(tables)
    device = tables[0].device
    kept = {place: torch.empty_like(tables[place], dtype=torch.bool) for place in (*short, *long)}
    entries = [(tables[i].data_ptr(), kept[i].data_ptr(), tables[i].numel(), counts[i]) for i in long]
    entries = torch.tensor(entries, dtype=torch.int64).to(device, non_blocking=True)
    listed = torch.empty(len(long) * kernels.LISTED, dtype=torch.int64, device=device)
    sizes = [len(long) * kernels.INTERVALS, len(long) * kernels.NUMBERS, len(short)]
    zeros = torch.zeros(sum(sizes), dtype=torch.int32, device=device)
    intervals, numbers, odd = zeros.split(sizes)
    for number, place in enumerate(short):
        rows, c = tables[place].shape
        size = 1 << (c - 1).bit_length()
        arguments = tables[place], kept[place], odd[number:], c, counts[place]
        kernels.keep_rows[(rows,)](*arguments, SIZE=size, num_warps=max(1, size // 2048))
    if long:
        one, many = (len(long),), (programs, len(long))
        kernels.enclose[one](entries, numbers, num_warps=16)
        kernels.tally[many](entries, numbers, intervals, num_warps=16)
        kernels.locate[one](entries, numbers, intervals, num_warps=8)
        kernels.write[many](entries, numbers, listed, num_warps=16)
        kernels.settle[one](entries, numbers, listed, num_warps=32)
    numbers, odd = zeros[sizes[0] :].cpu().split(sizes[1:])
    for place, said in zip(long, numbers.view(-1, kernels.NUMBERS).tolist(), strict=True):
        room, found = said[kernels.ROOM], said[kernels.FOUND]
        if said[kernels.ODD] or not 0 < room <= found:
            del kept[place]
        elif found > kernels.LISTED:
            first, beyond = kernels.value_above(said[kernels.LOW]), kernels.value_above(said[kernels.HIGH])
            _sort_out(tables[place].view(-1), kept[place].view(-1), first, beyond, room)
    for place, said in zip(short, odd.tolist(), strict=True):
        if said:
            del kept[place]
    return [kept.get(place) for place in range(len(tables))]


def _sort_out(values: Tensor, kept: Tensor, first: float, beyond: float, room: int) -> None:
    """Keep all but the `room` smallest of the values (n,) with first ≤ value < beyond."""
    places = torch.nonzero((values >= first) & (values < beyond)).flatten()
    order = (values[places] + 0.0).sort(stable=True).indices  # −0 becomes 0
    kept[places[order[room:]]] = True


def _is_short(table: Tensor, k: int) -> bool:
    """Whether each row of the table is chosen from by a program of its own."""
    return _is_plain(table, k) and table.shape[0] >= 32 and 256 <= table.shape[1] <= _LONGEST


def _is_long(table: Tensor, k: int) -> bool:
    """Whether all of the GPU chooses from the one row of the table."""
    return _is_plain(table, k) and table.shape[0] == 1 and table.shape[1] >= 256


def _is_plain(table: Tensor, k: int) -> bool:
    # Numbers of 32 bits count the values, and step beyond the last ones.
    return table.dtype == torch.float32 and table.is_contiguous() and 0 < k < table.shape[1] < 2**30
