"""Masks at one bit per weight."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor


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
        return int((torch.bincount(self.bits.cpu(), minlength=256) * _ones()).sum())

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
        changed = self.bits.cpu() ^ other.bits.cpu()
        return int((torch.bincount(changed, minlength=256) * _ones()).sum())

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


def pack(mask: Tensor) -> PackedMask:
    """Pack a bool mask (d_out, d_in); the bits lie on the CPU."""
    bits = np.packbits(mask.detach().cpu().numpy().reshape(-1), bitorder="little")
    return PackedMask(torch.from_numpy(bits), tuple(mask.shape))


@cache
def _table(device: torch.device) -> Tensor:
    """int64 (256,): the eight bools of every byte, side by side in memory."""
    return _bools().view(torch.int64).flatten().to(device)


@cache
def _ones() -> Tensor:
    """int64 (256,): the number of bits set in every byte."""
    return _bools().sum(1)


def _bools() -> Tensor:
    """bool (256, 8): the bits of every byte, lowest first."""
    every_byte = np.arange(256, dtype=np.uint8)[:, None]
    return torch.from_numpy(np.unpackbits(every_byte, axis=1, bitorder="little")).to(torch.bool)
