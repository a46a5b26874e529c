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
BLOCK = 1 << 17
"""Bytes that zstd codes by the same frequencies."""

_BY_FREQUENCY = zstandard.ZstdCompressionParameters(
    window_log=17, hash_log=6, chain_log=6, min_match=7, strategy=zstandard.STRATEGY_FAST
)
_PROBE, _PROBES = 1 << 12, 16
"""Bytes of a piece that is looked at, and how many of them, before a long run of bytes is coded."""
WORTH = 7.97
"""Bits a byte above which coding gains nothing that is worth the time."""


def encode(data: np.ndarray) -> tuple[str, np.ndarray]:
    """Code bytes in the shortest of the three ways.

    Args:
        data: uint8 (n,).

    Returns:
        The way, and what to store, uint8.
    """
    if _as_good_as_random(data):
        return RAW, data
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
    distance = np.zeros(len(exponents) + len(exponents) % 2, np.uint8)
    np.subtract(top, exponents, out=distance[: len(exponents)], dtype=np.uint8)
    far = exponents[:0]
    if top - int(exponents.min()) >= FAR:
        far = exponents[np.flatnonzero(distance >= FAR)]
        np.minimum(distance, FAR, out=distance)
    both = distance.view("<u2")
    return top, (both << 4 | both >> 8).astype(np.uint8), far


def from_pairs(top: int, pairs: np.ndarray, far: np.ndarray, size: int) -> np.ndarray:
    """The uint8 (size,) exponents that `to_pairs` took apart.

    Raises:
        UserError: numbers that do not fit together.
    """
    both = pairs.astype("<u2")
    both = both >> 4 | (both & 15) << 8
    distance = both.view(np.uint8)[:size]
    apart = np.flatnonzero(distance == FAR) if len(far) or distance.max(initial=0) == FAR else ()
    if len(apart) != len(far):
        raise UserError("The exponents of a packed tensor are damaged; download or pack the model again.")
    exponents = np.subtract(top, distance, dtype=np.uint8)
    if len(far):
        exponents[apart] = far
    return exponents


def bits_each(data: np.ndarray) -> float:
    """Bits a byte that coding by frequency takes, as `bits_of_counts` tells."""
    return bits_of_counts(np.bincount(data, minlength=256))


def bits_of_counts(counts: np.ndarray) -> float:
    """About how many bits a symbol takes when it is coded by its frequency, the shortest code being one bit.

    That is the entropy, corrected for what few symbols leave out of sight (Miller and Madow), and more where one symbol
    comes nearly always.

    Args:
        counts: (symbols,) how often each one occurs.
    """
    total = counts.sum()
    if not total:
        return 0.0
    shares = counts[counts > 0] / total
    entropy = float(-(shares * np.log2(shares)).sum() + (len(shares) - 1) / (2 * np.log(2) * total))
    most = float(shares.max())
    if most > 0.5 and len(shares) > 1:  # Huffman's code spends a bit on it
        others = entropy + most * np.log2(most) + (1 - most) * np.log2(1 - most)
        return max(entropy, 1 + max(0.0, others))
    return entropy


def _as_good_as_random(data: np.ndarray) -> bool:
    """Whether pieces of a long run of bytes look as if coding would not make it shorter."""
    if len(data) < 2 * _PROBE * _PROBES:
        return False
    starts = np.linspace(0, len(data) - _PROBE, _PROBES).astype(np.int64)
    return bits_each(np.concatenate([data[start : start + _PROBE] for start in starts])) > WORTH
