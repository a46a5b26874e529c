"""Values as bytes of one significance each, and back: what belongs together is stored together.

The bits of each value are rotated left by one, so that the sign is the lowest bit and the exponent of bfloat16 and
float32 is the highest byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.pipelines.bits import as_integers

_PIECE = 1 << 18
"""Values at a time, which stay near the processor."""


def bits_of(values: Tensor) -> np.ndarray:
    """The bits of values (n,) as unsigned integers, in their own memory."""
    return as_integers(values.detach().contiguous()).numpy().view(f"<u{values.element_size()}")


def values_of(bits: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The values (n,) with these bits, in the same memory."""
    return torch.from_numpy(bits.view(f"<i{bits.itemsize}")).view(dtype)


def narrowest(values: Tensor) -> Tensor:
    """The values (n,) in half the bytes where none of them changes: float32 often comes from bfloat16 or float16."""
    if values.dtype != torch.float32:
        return values
    bits = bits_of(values)
    if not (np.bitwise_or.reduce(bits) & 0xFFFF):
        return values_of((bits >> 16).astype("<u2"), torch.bfloat16)
    if not values[:1024].equal(values[:1024].half().float()):  # almost always; spares looking at all of them
        return values
    narrow = values.half()
    return narrow if np.array_equal(bits_of(narrow.float()), bits) else values


def planes_of(bits: np.ndarray) -> list[np.ndarray]:
    """uint8 (n,) for every byte of the rotated bits, the most significant first.

    Args:
        bits: as `bits_of` gives them.
    """
    size = bits.itemsize
    planes = [np.empty(len(bits), np.uint8) for _ in range(size)]
    for start in range(0, len(bits), _PIECE):
        piece = slice(start, start + _PIECE)
        rotated = bits[piece] << 1 | bits[piece] >> (8 * size - 1)
        for place, plane in enumerate(planes):
            np.right_shift(rotated, 8 * (size - 1 - place), out=plane[piece], casting="unsafe")
    return planes


def bits_from(planes: Sequence[np.ndarray]) -> np.ndarray:
    """The bits (n,) whose planes these are, an unsigned integer of as many bytes as there are planes."""
    size = len(planes)
    kind = np.dtype(f"<u{size}")
    bits = np.empty(len(planes[0]), kind)
    for start in range(0, len(bits), _PIECE):
        piece = slice(start, start + _PIECE)
        rotated = planes[-1][piece].astype(kind)
        for place, plane in enumerate(planes[:-1]):
            rotated |= plane[piece].astype(kind) << 8 * (size - 1 - place)
        np.bitwise_or(rotated >> 1, rotated << (8 * size - 1), out=bits[piece])
    return bits
