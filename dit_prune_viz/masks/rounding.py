"""Weights rounded to a grid of 8 or 4 bits: absmax round-to-nearest, the baseline of the quantisation papers.

A scale per row, or per group of consecutive inputs of a row, and whole numbers on either side of zero. 8 bits take the
codes −127 to 127 with scale = max|w|/127, as LLM.int8() (Dettmers et al., arXiv 2208.07339) and GGUF's Q8_0 do. 4 bits
take all sixteen codes, −8 to 7, with scale = (the w of max|w|)/−8, as GGUF's Q4_0 does: the scale carries a sign, so
the largest weight falls on the grid whatever its own sign. Codes −7 to 7 would leave one code unused and make every
step 8/7 as wide. Nothing is calibrated: GPTQ (Frantar et al., arXiv 2210.17323) calls this RTN and compares with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from dit_prune_viz.checks import whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.row_pieces import PIECE
from dit_prune_viz.masks.spread import spread

CODES = MappingProxyType({8: (-127, 127), 4: (-8, 7)})
"""Bits of a code → least and greatest code."""

_MOST_INPUTS = 1 << 30
_PIECES_OF_GPU = 64
_CLOSE = 1 / 256
"""How far a float16 scale may be off; a layer with a scale that is further off, as tiny ones are, keeps float32."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """A table (d_out, d_in) of rounded weights; what a mask prunes is zero.

    Attributes:
        codes: int8 (kept,), row by row, also where a code has four bits.
        scales: (d_out, groups) float16, or float32 where float16 holds them badly; weight = code · scale.
        shape: (d_out, d_in).
        bits: of a code, 8 or 4.
        group: consecutive inputs with one scale; the last group of a row may be shorter.
        mask: which weights are kept; None where all are.
        dtype: of the weights that were rounded.
    """

    codes: Tensor
    scales: Tensor
    shape: tuple[int, int]
    bits: int
    group: int
    mask: PackedMask | None = None
    dtype: torch.dtype = torch.float32

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory, the mask apart."""
        return self.codes.nbytes + self.scales.nbytes

    @property
    def file_bytes(self) -> int:
        """Bytes of codes and scales in a file that stores `bits` bits a code, the mask apart."""
        return -(-self.codes.numel() * self.bits // 8) + self.scales.nbytes

    def values(self, dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
        """The table (d_out, d_in), exactly zero where the mask prunes; the same bits on every device.

        Args:
            dtype: code · scale is rounded to it once; None is that of the weights.
            out: where to write them, in its own dtype; None makes a new table.
        """
        codes = self.codes.view(self.shape) if self.mask is None else spread(self.mask, self.codes)
        table = torch.empty(self.shape, dtype=dtype or self.dtype, device=codes.device) if out is None else out
        for rows in _row_slices(self.shape, codes.device):
            piece = codes[rows].float()
            grouped, scales = _matched(piece, self.scales[rows].float(), self.group)
            grouped.mul_(scales).add_(0.0)  # a code of 0 times a scale below 0 is −0
            table[rows] = piece
        return table

    def kept(self, dtype: torch.dtype | None = None) -> Tensor:
        """The kept weights (kept,), row by row; `dtype` as in `values`."""
        table = self.values(dtype)
        return table.view(-1) if self.mask is None else table[self.mask.unpack()]

    def to(self, device: torch.device | str) -> Rounded:
        """The same on another device."""
        mask = self.mask and self.mask.to(device)
        codes, scales = self.codes.to(device), self.scales.to(device)
        return Rounded(codes, scales, self.shape, self.bits, self.group, mask, self.dtype)


@torch.no_grad()
def round_to_nearest(values: Tensor, *, bits: int, group: int | None = None, mask: PackedMask | None = None) -> Rounded:
    """Round a table of weights to a grid, each group of a row to its own; ties go to the even code.

    Scales are rounded to what is stored first and codes are found with those, so the codes suit them. Works in float32,
    some rows at a time: beside the result no more than a few megabytes are needed.

    Args:
        values: (d_out, d_in), only read.
        bits: 8 or 4, see `CODES`.
        group: consecutive inputs of a row that share a scale; None or 0 is the whole row.
        mask: only what it keeps counts and is stored; None keeps all.

    Returns:
        The codes and scales, on the device of the values.

    Raises:
        UserError: other bits, a group that is no whole number, no table, NaN or infinite values, a mask of another
            shape.
    """
    group = _check(values, bits, group, mask)
    mask = mask and mask.to(values.device)
    scales = [_scales(table, bits, group) for table, _ in _pieces(values, mask)]
    scales = _narrow(torch.cat(scales)) if scales else values.new_zeros((len(values), 0), dtype=torch.float16)
    codes, low_high, done = [], CODES[bits], 0
    for table, keep in _pieces(values, mask):
        # In a group of zeros, and only there, the scale is zero; there 0/1 does as well.
        own = scales[done : done + len(table)].to(torch.float32, copy=True)
        grouped, own = _matched(table, own.masked_fill_(own == 0, 1), group)
        grouped.div_(own).round_().clamp_(*low_high)
        found = table.to(torch.int8)
        codes.append(found.view(-1) if keep is None else found[keep])
        done += len(table)
    codes = torch.cat(codes) if codes else torch.zeros(0, dtype=torch.int8, device=values.device)
    return Rounded(codes, scales, tuple(values.shape), bits, group, mask, values.dtype)


def _check(values: Tensor, bits: object, group: object, mask: PackedMask | None) -> int:
    """The group, at most a row."""
    if isinstance(bits, bool) or bits not in CODES:
        raise UserError(f"Weights are rounded to {' or '.join(map(str, sorted(CODES)))} bits, not {bits!r}.")
    if values.ndim != 2 or not values.is_floating_point():
        raise UserError("Only a table of floating-point weights can be rounded.")
    if mask is not None and tuple(mask.shape) != tuple(values.shape):
        raise UserError(f"A mask of shape {tuple(mask.shape)} does not fit weights of shape {tuple(values.shape)}.")
    width = max(1, values.shape[1])
    return min(whole(group or 0, "The group of weights with one scale", 0, _MOST_INPUTS) or width, width)


def _pieces(values: Tensor, mask: PackedMask | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """New float32 tables of some rows each with zeros where the mask prunes, and the rows of the mask."""
    for rows in _row_slices(values.shape, values.device):
        table = values[rows].to(torch.float32, copy=True)
        if mask is None:
            yield table, None
            continue
        width = values.shape[1]
        keep = mask.unpack_flat(rows.start * width, rows.start * width + table.numel()).view(table.shape)
        yield table.masked_fill_(~keep, 0), keep


def _row_slices(shape: tuple[int, int], device: torch.device) -> Iterator[slice]:
    """About PIECE values at a time, more on a GPU; a multiple of eight rows, as a mask's bytes want it."""
    most = PIECE if device.type == "cpu" else _PIECES_OF_GPU * PIECE
    height = max(8, most // max(1, shape[1]) // 8 * 8)
    for start in range(0, shape[0] if shape[1] else 0, height):
        yield slice(start, start + height)


def _scales(table: Tensor, bits: int, group: int) -> Tensor:
    """(rows, groups) float32."""
    spare = -table.shape[1] % group
    grouped = torch.nn.functional.pad(table, (0, spare)) if spare else table
    grouped = grouped.view(len(table), -1, group)
    low, high = grouped.amin(2), grouped.amax(2)
    if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise UserError("Weights that are NaN or infinite cannot be rounded; load the model's files again.")
    if bits == 8:
        return torch.maximum(high, -low) / CODES[8][1]
    return torch.where(high >= -low, high, low) / CODES[4][0]


def _narrow(scales: Tensor) -> Tensor:
    """In float16, as GPTQ's and GGUF's files store them, unless one of them comes out too wrong."""
    half = scales.to(torch.float16)
    good = bool(((half.float() - scales).abs() <= _CLOSE * scales.abs()).all())
    return half if good else scales


def _matched(table: Tensor, scales: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """The same table (rows, d_in) and its scales (rows, groups), in shapes that multiply each weight by its own."""
    width = table.shape[1]
    if width % group == 0:
        return table.view(len(table), -1, group), scales[:, :, None]
    return table, scales.repeat_interleave(group, dim=1)[:, :width]
