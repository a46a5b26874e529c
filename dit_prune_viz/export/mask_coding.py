"""How a mask is stored: its bits row by row or column by column, whichever is shorter."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.coding import bits_each, decode, encode
from dit_prune_viz.masks.packed_mask import PackedMask

ROWS, COLUMNS = "rows", "columns"
_PROBES = 32
"""Pieces of a mask that tell which order is shorter."""
_SURE = 0.01
"""Bits a byte by which one order must look shorter for the other one not to be tried."""


def pack_mask(mask: PackedMask) -> tuple[dict[str, str], np.ndarray]:
    """What the header says of a mask, and the bytes to store.

    Channels differ in how much of them is kept, which makes whole bytes of one channel's bits alike.
    """
    by_rows, by_columns = bits_by_order(mask)
    orders = []
    if by_rows < by_columns + _SURE:
        orders.append((ROWS, *encode(mask.bits.numpy())))
    if by_columns < by_rows + _SURE and min(by_rows, by_columns) < 8 - _SURE:
        orders.append((COLUMNS, *encode(mask.transposed().bits.numpy())))
    order, coding, stored = min(orders, key=lambda one: len(one[2]))
    return {"order": order, "coding": coding}, stored


def unpack_mask(coded: Mapping[str, str], stored: np.ndarray, shape: tuple[int, int]) -> PackedMask:
    """The mask that was packed.

    Args:
        coded: what the header says of it.
        stored: its bytes.
        shape: (d_out, d_in).

    Raises:
        UserError: they do not fit together.
    """
    weights = math.prod(shape)
    bits = decode(coded["coding"], stored, -(-weights // 8))
    if weights % 8 and bits[-1] >> weights % 8:
        raise UserError("A packed mask is longer than its table; download or pack the model again.")
    bits = torch.from_numpy(bits if bits.flags.writeable else bits.copy())
    return PackedMask(bits, shape) if coded["order"] == ROWS else PackedMask(bits, shape[::-1]).transposed()


def bits_by_order(mask: PackedMask) -> tuple[float, float]:
    """The entropy of a mask's bytes in either order, in bits a byte, from a sample of its rows."""
    d_out, d_in = mask.shape
    if min(mask.shape) < 8:
        return 0.0, 0.0  # so few that both are tried
    firsts = np.unique(np.linspace(0, d_out // 8 - 1, min(_PROBES, d_out // 8)).astype(np.int64)) * 8
    rows, columns = [], []
    for first in firsts:
        eight = mask.unpack_flat(first * d_in, (first + 8) * d_in).numpy().view(np.uint8).reshape(8, d_in)
        rows.append(np.packbits(eight[:, : d_in // 8 * 8]))
        columns.append(np.packbits(eight, axis=0).reshape(-1))
    return bits_each(np.concatenate(rows)), bits_each(np.concatenate(columns))
