"""How the packed format stores a run of bytes: as they are, not at all where they are zero, or as a zstd frame.

Exponents of neighbouring weights differ by little, so the distances to the greatest one take four bits and two of them
make a byte. zstd looks for repetitions, and there are none: with a search that hardly finds anything it codes single
bytes by their frequency (Huffman), which makes these smaller than its usual levels do, and several times as fast.
That exponents hold the redundancy of trained weights is from DFloat11 (Zhang et al., arXiv 2504.11651).
"""

from __future__ import annotations

import numpy as np
import zstandard

from dit_prune_viz.errors import UserError

RAW, ZERO, ZSTD = "raw", "zero", "zstd"
FAR = 15
"""Distance of exponents that are stored apart."""
_BY_FREQUENCY = zstandard.ZstdCompressionParameters(
    window_log=17, hash_log=6, chain_log=6, min_match=7, strategy=zstandard.STRATEGY_FAST
)


def encode(data: np.ndarray) -> tuple[str, np.ndarray]:
    """Code bytes in the shortest of the three ways.

    Args:
        data: uint8 (n,).

    Returns:
        The way, and what to store, uint8.
    """
    if not data.any():
        return ZERO, np.zeros(0, np.uint8)
    # A new compressor for every run: one of them must not be used by two threads.
    coded = zstandard.ZstdCompressor(compression_params=_BY_FREQUENCY).compress(np.ascontiguousarray(data))
    return (ZSTD, np.frombuffer(coded, np.uint8)) if len(coded) < data.nbytes else (RAW, data)


def decode(way: str, stored: np.ndarray, size: int) -> np.ndarray:
    """The bytes that `encode` coded.

    Args:
        way: "raw", "zero" or "zstd".
        stored: uint8.
        size: how many bytes must come out; a frame that says it holds more is not opened.

    Raises:
        UserError: unknown way, or another number of bytes.
    """
    if way == ZERO and not len(stored):
        return np.zeros(size, np.uint8)
    if way == RAW and len(stored) == size:
        return stored
    if way == ZSTD:
        try:
            if zstandard.frame_content_size(stored) == size:
                data = zstandard.ZstdDecompressor().decompress(np.ascontiguousarray(stored), max_output_size=size)
                if len(data) == size:
                    return np.frombuffer(data, np.uint8)
        except zstandard.ZstdError:
            pass
    raise UserError(f"{size:,} bytes stored as {way!r} are damaged; download or pack the model again.")


def to_pairs(exponents: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Exponents as distances to the greatest one, two in a byte, the first in its upper half.

    Args:
        exponents: uint8 (n,), n ≥ 1.

    Returns:
        The greatest exponent, uint8 (⌈n / 2⌉,) pairs, and the exponents whose distance is 15 or more, in their order.
    """
    top = int(exponents.max())
    distance = np.subtract(top, exponents, dtype=np.uint8)
    far = exponents[distance >= FAR]
    if len(far):
        np.minimum(distance, FAR, out=distance)
    if len(distance) % 2:
        distance = np.append(distance, np.uint8(0))
    pairs = distance[0::2] << 4
    pairs |= distance[1::2]
    return top, pairs, far


def from_pairs(top: int, pairs: np.ndarray, far: np.ndarray, size: int) -> np.ndarray:
    """The uint8 (size,) exponents that `to_pairs` took apart.

    Raises:
        UserError: numbers that do not fit together.
    """
    distance = _halves()[pairs].view(np.uint8)[:size]
    exponents = np.subtract(top, distance, dtype=np.uint8)
    apart = np.flatnonzero(distance == FAR) if len(far) or distance.max(initial=0) == FAR else ()
    if len(apart) != len(far):
        raise UserError("The exponents of a packed tensor are damaged; download or pack the model again.")
    if len(far):
        exponents[apart] = far
    return exponents


def _halves() -> np.ndarray:
    """(256,) uint16 whose two bytes in memory are the halves of every byte, the upper one first."""
    every = np.arange(256, dtype=np.uint8)
    return np.stack([every >> 4, every & 15], axis=1).reshape(-1).view(np.uint16)
