"""How a mask is stored: its bits row by row or column by column, whichever is shorter."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.coding import RAW, WORTH, bits_each, decode, encode
from dit_prune_viz.masks.packed_mask import PackedMask

ROWS, COLUMNS = "rows", "columns"
_PROBES = 32
"""Eights of rows that tell which order is shorter."""
_FEW = 1 << 16
"""Weights of a mask that is so small that both orders are tried."""
_GAIN = 0.02
"""Bits a byte by which columns have to be shorter: a mask that lies row by row is read sooner."""


def pack_mask(mask: PackedMask) -> tuple[dict[str, str], np.ndarray]:
    """What the header says of a mask, and the bytes to store.

    Channels differ in how much of them is kept, which makes whole bytes of one channel's bits alike.
    """
    few = mask.weights <= _FEW
    by_rows, by_columns = (0.0, 0.0) if few else bits_by_order(mask)
    columns, rows = (RAW, mask.bits.numpy()), None
    if few or by_columns < min(by_rows, WORTH) - _GAIN:
        columns = encode(mask.transposed().bits.numpy())
    if few or columns[0] == RAW:
        rows = encode(mask.bits.numpy())
    if rows is not None and len(rows[1]) <= len(columns[1]):
        return {"order": ROWS, "coding": rows[0]}, rows[1]
    return {"order": COLUMNS, "coding": columns[0]}, columns[1]


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
    """The entropy of a mask's bytes row by row and column by column, in bits a byte, from a sample of its rows.

    Args:
        mask: with 8 rows or more.
    """
    d_out, d_in = mask.shape
    firsts = np.unique(np.linspace(0, d_out // 8 - 1, min(_PROBES, d_out // 8)).astype(np.int64)) * 8
    if d_in % 8 == 0:
        bits = mask.bits.numpy().reshape(d_out, d_in // 8)[(firsts[:, None] + np.arange(8)).reshape(-1)]
    else:
        eights = [mask.unpack_flat(first * d_in, (first + 8) * d_in).numpy() for first in firsts]
        bits = np.packbits(np.stack(eights).reshape(-1, d_in)[:, : d_in // 8 * 8], axis=1, bitorder="little")
    sample = PackedMask(torch.from_numpy(bits.reshape(-1)), (len(bits), 8 * bits.shape[1]))
    return bits_each(sample.bits.numpy()), bits_each(sample.transposed().bits.numpy())
