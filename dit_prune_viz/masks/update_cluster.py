"""One cluster of a layer selected anew, fast enough to follow a slider."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.packed_mask import PackedMask, ones, pack
from dit_prune_viz.masks.select import keep_mask_groups
from dit_prune_viz.masks.smallest import smallest
from dit_prune_viz.masks.smallest_cpu import bracket, in_threads, of_rows

_CHUNK = 1 << 20
"""Weights compared at a time, a multiple of 8: few enough to stay near the processor, many enough for few calls."""

_FEW = 1 << 18
"""Clusters of no more weights are ranked whole."""


def update_cluster(
    mask: PackedMask,
    scores: Tensor,
    labels: np.ndarray,
    cluster: int,
    sparsity: float,
    granularity: str,
    unit: str,
) -> PackedMask:
    """The mask of a layer with one of its clusters pruned to another sparsity and all others as they are.

    The same, bit for bit, as `keep_mask_groups` with that one sparsity and `mask` as its base, but without touching
    what other clusters keep: the scores are read once.

    Args:
        mask: of the layer until now.
        scores: (d_out, d_in), finite float32 as `layer_scores` gives them.
        labels: cluster ids of all units, as in `keep_mask_groups`.
        cluster: id of the one that changes.
        sparsity: its new one, 0–1.
        granularity: "layer", "row" or "column".
        unit: of the labels.

    Raises:
        UserError: as in `keep_mask_groups`.
    """
    sparsity = check_sparsity(sparsity)
    fitting = len(labels) == {"row": scores.shape[0], "column": scores.shape[1], "weight": scores.numel()}.get(unit)
    plain = fitting and scores.device.type == "cpu" and scores.dtype == torch.float32 and scores.is_contiguous()
    count = removed(scores.shape[1], sparsity)
    if plain and granularity == unit == "row" and scores.shape[1] % 8 == 0 and 0 < count < scores.shape[1]:
        return _update_rows(mask, scores.detach().numpy(), np.flatnonzero(labels == cluster), count)
    if not (plain and granularity == "layer"):
        chosen: list[float | None] = [None] * max(int(labels.max()) + 1, cluster + 1)
        chosen[cluster] = sparsity
        return pack(keep_mask_groups(scores, labels, chosen, granularity, unit, mask.unpack().to(scores.device)))
    member = _member_bits(labels, cluster, tuple(scores.shape), unit)
    size = ones(member)
    pruned = _pruned_bits(scores.detach().view(-1).numpy(), member, size, removed(size, sparsity))
    return PackedMask(torch.from_numpy((mask.bits.cpu().numpy() & ~member) | (member & ~pruned)), mask.shape)


def _update_rows(mask: PackedMask, scores: np.ndarray, rows: np.ndarray, count: int) -> PackedMask:
    """The mask with the `count` smallest of each of the `rows` pruned, and all other rows as they are."""
    bits = mask.bits.cpu().numpy().copy()
    table = bits.reshape(len(scores), -1)

    def work(some: np.ndarray) -> None:
        if len(some):
            table[some] = np.packbits(~of_rows(scores[some], count), axis=1, bitorder="little")

    in_threads(work, np.array_split(rows, max(1, len(rows) * scores.shape[1] // _CHUNK)))
    return PackedMask(torch.from_numpy(bits), mask.shape)


def _member_bits(labels: np.ndarray, cluster: int, shape: tuple[int, int], unit: str) -> np.ndarray:
    """One bit for every weight of the layer, as in `PackedMask`: whether its unit is in the cluster."""
    d_out, d_in = shape
    if unit == "weight":
        bits = np.empty(-(-len(labels) // 8), dtype=np.uint8)

        def work(start: int) -> None:
            bits[start // 8 : (start + _CHUNK) // 8] = np.packbits(
                labels[start : start + _CHUNK] == cluster, bitorder="little"
            )

        in_threads(work, range(0, len(labels), _CHUNK))
        return bits
    members = labels == cluster
    if d_in % 8 == 0 and unit == "row":
        return np.repeat(members.astype(np.uint8) * 255, d_in // 8)
    if d_in % 8 == 0:
        return np.tile(np.packbits(members, bitorder="little"), d_out)
    table = np.broadcast_to(members[:, None] if unit == "row" else members, shape)
    return np.packbits(table.reshape(-1), bitorder="little")


def _pruned_bits(scores: np.ndarray, member: np.ndarray, size: int, count: int) -> np.ndarray:
    """One bit for every weight: whether it is among the `count` smallest of the `size` members; junk for the others."""
    if count in (0, size):
        return np.full(member.shape, 255 if count else 0, dtype=np.uint8)
    everything = (-np.inf, np.inf)
    close = _bracket_members(scores, member, count / size) if size > _FEW else everything
    for low, high in (close, everything):
        below, chunks = _compare(scores, member, low, high)
        first, at, bits, values = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        if first.sum() < count <= first.sum() + len(values):
            break
    # What lies below the bracket goes for certain; of what lies inside it, the smallest.
    bits[bits] = smallest(torch.from_numpy(values)[None], count - int(first.sum()))[0].numpy()
    below[at] |= np.packbits(bits, bitorder="little")
    return below


def _bracket_members(scores: np.ndarray, member: np.ndarray, share: float) -> tuple[float, float]:
    """Two scores between which, almost surely, the one that ends the smallest `share` of the members lies."""
    step = max(1, len(scores) // (1 << 17)) | 1
    at = np.arange(0, len(scores), step)
    sample = scores[at[(member[at >> 3] >> (at & 7) & 1).astype(bool)]]
    return bracket(np.sort(sample), share) if len(sample) else (-np.inf, np.inf)


def _compare(scores: np.ndarray, member: np.ndarray, low: float, high: float) -> tuple[np.ndarray, list[tuple]]:
    """A bit for every score less than `low`, and of each chunk what lies from `low` to `high` among the members.

    That is: how many members lie below, (1,); the indices of the bytes (b,) with members inside; their bits (8·b,),
    True for those; and their scores in order.
    """
    less = np.empty_like(member)
    low, high = np.float32(low), np.float32(high)

    def work(start: int) -> tuple:
        part = scores[start : start + _CHUNK]
        span = slice(start // 8, -(-(start + len(part)) // 8))
        less[span] = np.packbits(part < low, bitorder="little")
        inside = np.packbits(part <= high, bitorder="little") & ~less[span] & member[span]
        at = np.flatnonzero(inside != 0)
        bits = np.unpackbits(inside[at], bitorder="little").view(bool)
        within = np.flatnonzero(bits)
        values = part[at[within >> 3] * 8 + (within & 7)]
        return np.array([ones(less[span] & member[span])]), at + span.start, bits, values

    return less, in_threads(work, range(0, len(scores), _CHUNK))
