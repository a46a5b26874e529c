"""Masks at one bit per weight."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 1024
"""Weights of which the mask knows how many are kept before them, see `PackedMask.starts`."""


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A mask in an eighth of its size.

    bits: uint8 (⌈d_out·d_in / 8⌉,); bit b of byte i is weight 8·i + b, row by row, 1 = kept; spare bits are 0.
    shape: (d_out, d_in).
    """

    bits: Tensor
    shape: tuple[int, int]

    @property
    def weights(self) -> int:
        """The number of weights the mask covers."""
        return math.prod(self.shape)

    @cached_property
    def kept(self) -> int:
        """The number of weights that stay."""
        return ones(self.bits.cpu().numpy())

    @cached_property
    def starts(self) -> Tensor:
        """int32 (⌈weights / 1024⌉,), on the bits' device: how many weights are kept before every tile of 1,024."""
        ones = _count(self.bits)
        tiles = F.pad(ones, (0, -len(ones) % (TILE // 8))).view(-1, TILE // 8).sum(1, dtype=torch.int32)
        return (tiles.cumsum(0) - tiles).to(torch.int32)

    @property
    def removed(self) -> int:
        """The number of weights that are pruned."""
        return self.weights - self.kept

    @cached_property
    def digest(self) -> str:
        """The same for masks with the same bits, wherever they are."""
        return hashlib.sha256(self.bits.cpu().numpy().tobytes()).hexdigest()

    def differing(self, other: PackedMask) -> int:
        """The number of weights that are kept by one of two masks of the same shape and pruned by the other."""
        if other is self:
            return 0
        return ones(self.bits.cpu().numpy() ^ other.bits.cpu().numpy())

    def to(self, device: torch.device | str) -> PackedMask:
        """The same mask with its bits on `device`."""
        return self if self.bits.device == torch.device(device) else PackedMask(self.bits.to(device), self.shape)

    def unpack(self) -> Tensor:
        """The bool mask (d_out, d_in), True = kept, on the device of the bits."""
        return self.unpack_flat(0, self.weights).view(self.shape)

    def unpack_flat(self, start: int, stop: int) -> Tensor:
        """The mask of some weights, row after row, as bool (stop − start,); `start` is a multiple of 8."""
        # Eight bools are eight bytes, so one int64 of the table holds what a byte of bits stands for.
        bits = self.bits[start // 8 : -(-stop // 8)]
        eights = _table(self.bits.device).index_select(0, bits.to(torch.int32))
        return eights.view(torch.bool)[: stop - start]

    def transposed(self) -> PackedMask:
        """The mask of the transposed table (d_in, d_out); the bits lie on the CPU."""
        rows, columns = self.shape
        if rows % 8 or columns % 8 or not self.weights:
            return pack(self.unpack().T)
        squares = self.bits.cpu().numpy().reshape(rows // 8, 8, columns // 8).transpose(0, 2, 1)
        turned = _turn_squares(np.ascontiguousarray(squares).reshape(-1).view("<u8"))
        bits = np.ascontiguousarray(turned.view(np.uint8).reshape(rows // 8, columns).T)
        return PackedMask(torch.from_numpy(bits.reshape(-1)), (columns, rows))


def pack(mask: Tensor) -> PackedMask:
    """Pack a bool mask (d_out, d_in); the bits lie on the CPU."""
    bits = np.packbits(mask.detach().cpu().numpy().reshape(-1), bitorder="little")
    return PackedMask(torch.from_numpy(bits), tuple(mask.shape))


def ones(bits: np.ndarray) -> int:
    """How many bits of uint8 (n,) are set; whole words of 64 are counted eight times as fast as bytes."""
    words = len(bits) // 8 * 8
    return int(np.bitwise_count(bits[:words].view(np.uint64)).sum() + np.bitwise_count(bits[words:]).sum())


_SWAPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
"""Bits that trade places, and how far apart they are, with neighbours, pairs and fours of rows and columns."""


def _turn_squares(squares: np.ndarray) -> np.ndarray:
    """Eight rows of eight bits in every uint64, transposed: three steps of swaps (Warren, Hacker's Delight, 7-3)."""
    for distance, mask in _SWAPS:
        apart, chosen = np.uint64(distance), np.uint64(mask)
        swapped = (squares ^ (squares >> apart)) & chosen
        squares = squares ^ swapped ^ (swapped << apart)
    return squares


def _count(bits: Tensor) -> Tensor:
    """uint8: how many bits are set in every byte, in pairs, fours and eights of them."""
    pairs = bits - (bits >> 1 & 0x55)
    fours = (pairs & 0x33) + (pairs >> 2 & 0x33)
    return fours + (fours >> 4) & 0x0F


@cache
def _table(device: torch.device) -> Tensor:
    """int64 (256,): the eight bools of every byte, side by side in memory."""
    return _bools().view(torch.int64).flatten().to(device)


def _bools() -> Tensor:
    """bool (256, 8): the bits of every byte, lowest first."""
    every_byte = np.arange(256, dtype=np.uint8)[:, None]
    return torch.from_numpy(np.unpackbits(every_byte, axis=1, bitorder="little")).to(torch.bool)
