"""A sample of a layer's weights that tells how many bits a mask and the kept values take in the packed format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.export.byte_planes import bits_of, narrowest, planes_of
from dit_prune_viz.export.coding import BLOCK, FAR, WORTH, bits_each, bits_of_counts
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import ClusterPlan
from dit_prune_viz.masks.packed_mask import PackedMask

GRID = np.array([0, 0.005, 0.02, 0.05, *np.arange(0.1, 0.95, 0.05), 0.95, 0.98, 0.995, 1.0])
"""Sparsities at which a sample is looked at; in between, sizes are interpolated."""

_TABLE = 60
"""Bytes that zstd says of the frequencies of a block, and of its frame."""

_ROWS, _COLUMNS = 64, 512
_RUN = 64
"""Columns that stand side by side in the sample, a multiple of 8: whole bytes of a mask."""


@dataclass(frozen=True)
class Bits:
    """What a layer takes.

    Attributes:
        mask: bits of mask and description per weight.
        value: bits of a kept value.
        kept: share of the weights that is kept.
    """

    mask: float
    value: float
    kept: float


@dataclass(frozen=True, eq=False)
class LayerSample:
    """Some weights of a layer: those in some rows, eight of them side by side, and some columns.

    Attributes:
        shape: (d_out, d_in) of the layer.
        rows: (r,) which rows.
        columns: (c,) which columns.
        weights: float32 (r, c), their absolute values.
        first: uint8 (r, c), the highest byte of each as it is stored.
        second: the next byte.
        others: bits that any further bytes of a value take.
        described: bytes that a file says of the part with the highest bytes; there is none where all are alike.
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray
    others: float
    described: int

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        parts = self.weights, self.first, self.second, self.rows, self.columns
        return sum(part.nbytes for part in parts)

    def scores(self, exponents: tuple[float, float], norm: np.ndarray | None) -> np.ndarray:
        """(r, c), in the order of |W|^m · ‖X‖^n; without norms in that of |W|."""
        m, n = exponents
        if norm is None or not n:
            return self.weights
        if not m:
            return np.broadcast_to(norm[self.columns], self.weights.shape)
        return self.weights * norm[self.columns].astype(np.float32) ** np.float32(n / m)

    def table(self, scores: np.ndarray, granularity: str) -> np.ndarray:
        """(points, 2): bits of mask and description per weight, and of a kept value, at every sparsity of GRID.

        Args:
            scores: of the sample.
            granularity: the groups that are ranked.
        """
        rank = self.ranks(scores, granularity)
        place = np.searchsorted(GRID, rank.reshape(-1), side="right") * 256
        every = []
        for plane in (self.first, self.second):
            counts = np.bincount(place + plane.reshape(-1), minlength=256 * (len(GRID) + 1)).reshape(-1, 256)
            # What is pruned at one point of the grid is pruned at the next ones.
            every.append(counts[::-1].cumsum(0)[::-1][1:])
        return np.array(
            [
                (self._mask_bits(rank >= share) + self._part_bits(first), self._value_bits(first, second))
                for share, first, second in zip(GRID, *every, strict=True)
            ]
        )

    def ranks(self, scores: np.ndarray, granularity: str) -> np.ndarray:
        """(r, c) 0–1: up to which sparsity a weight is kept."""
        pattern = n_of_m(granularity)
        r, c = scores.shape
        if pattern and c % pattern[1] == 0:
            n, m = pattern
            position = _positions(scores.reshape(-1, m), 1).reshape(r, c)
            return np.where(position < m - n, 0.0, 1.0)
        axis = {"layer": None, "column": 0}.get(granularity, 1)
        return _positions(scores, axis) / (scores.size if axis is None else scores.shape[axis])

    def bits(self, keep: np.ndarray) -> Bits:
        """What a mask (r, c) of the sample says of the layer."""
        counts = [np.bincount(plane[keep], minlength=256) for plane in (self.first, self.second)]
        return Bits(self._mask_bits(keep) + self._part_bits(counts[0]), self._value_bits(*counts), float(keep.mean()))

    def of_mask(self, mask: PackedMask) -> np.ndarray:
        """The mask of the sample, bool (r, c), from that of the layer."""
        bits = mask.bits.cpu().numpy()
        places = self.rows[:, None] * self.shape[1] + self.columns
        return (bits[places >> 3] >> (places & 7) & 1).astype(bool)

    def with_clusters(
        self, keep: np.ndarray, scores: np.ndarray, clusters: ClusterPlan, granularity: str
    ) -> np.ndarray:
        """The mask of the sample in which every cluster with a sparsity of its own has it.

        Args:
            keep: the mask without clusters.
            scores: of the sample.
            clusters: of the layer.
            granularity: the groups that are ranked inside of each cluster.
        """
        keep, under = keep.copy(), clusters.beneath
        layers = [(clusters.labels, clusters.unit, clusters.sparsity)]
        if under is not None:
            layers.insert(0, (under.deciding(self.shape), under.unit, (None, *under.sparsity)))
        for labels, unit, sparsities in layers:
            own = self._labels(labels, unit)
            for cluster, sparsity in enumerate(sparsities):
                members = own == cluster
                if sparsity is not None and members.any():
                    axis = {"layer": None, "row": 1, "column": 0}[granularity]
                    position = _positions(np.where(members, scores, np.inf), axis)
                    keep[members] = (position >= members.sum(axis, keepdims=True) * sparsity)[members]
        return keep

    def _mask_bits(self, keep: np.ndarray) -> float:
        """Bits a weight of a mask, in the shorter order."""
        r, c = keep.shape
        rows = np.packbits(keep[:, : max(8, c // 8 * 8)], axis=1)
        columns = np.packbits(keep, axis=0) if r % 8 else np.packbits(keep.reshape(r // 8, 8, c), axis=1)
        size = self.shape[0] * self.shape[1] / 8
        return min(coded(bits_each(order.reshape(-1)), size) for order in (rows, columns)) / 8

    def _part_bits(self, first: np.ndarray) -> float:
        """Bits a weight that are said of the part with the highest bytes, by how often each (256,) is a kept one's."""
        return 8 * self.described / (self.shape[0] * self.shape[1]) if np.count_nonzero(first) > 1 else 0.0

    def _value_bits(self, first: np.ndarray, second: np.ndarray) -> float:
        """Bits of a kept value, by how often each byte (256,) is the highest one of a kept value, and the next."""
        total = first.sum()
        if not total:
            return 0.0
        kept = self.shape[0] * self.shape[1] * total / self.first.size
        return _first_bits(first, kept) + coded(bits_of_counts(second), kept) + self.others

    def _labels(self, labels: np.ndarray, unit: str) -> np.ndarray:
        """(r, c) labels of the sample."""
        if unit == "weight":
            return labels.reshape(self.shape)[self.rows[:, None], self.columns]
        own = labels[self.rows][:, None] if unit == "row" else labels[self.columns]
        return np.broadcast_to(own, self.weights.shape)


def sample_layer(weight: Tensor, described: int = 0) -> LayerSample:
    """A sample of a weight (d_out, d_in), of which no more than some rows are read; `described` as above."""
    d_out, d_in = weight.shape
    rows = _runs(d_out, _ROWS, 8)
    columns = _runs(d_in, _COLUMNS, _RUN)
    taken = weight.detach()[torch.from_numpy(rows).to(weight.device)].cpu()[:, torch.from_numpy(columns)]
    first, second, *others = planes_of(bits_of(narrowest(taken.reshape(-1))))
    size, low = tuple(taken.shape), sum(coded(bits_each(plane), plane.size) for plane in others)
    weights = taken.float().abs().numpy()
    first, second = first.reshape(size), second.reshape(size)
    return LayerSample((d_out, d_in), rows, columns, weights, first, second, low, described)


def _runs(total: int, most: int, run: int) -> np.ndarray:
    """Places 0..total−1 in runs of neighbours that are spread evenly; all of them where they are few."""
    if total <= most:
        return np.arange(total)
    starts = np.linspace(0, total // run - 1, most // run).astype(np.int64) * run
    return (starts[:, None] + np.arange(run)).reshape(-1)


def _positions(scores: np.ndarray, axis: int | None) -> np.ndarray:
    """The place of every score in the order of its group; `axis` None is one group."""
    flat = scores.reshape(1, -1) if axis is None else scores
    along = 1 if axis is None else axis
    order = np.argsort(flat, axis=along, kind="stable")
    places = np.empty(order.shape, np.int64)
    steps = np.arange(order.shape[along]).reshape((-1, 1) if along == 0 else (1, -1))
    np.put_along_axis(places, order, np.broadcast_to(steps, order.shape), along)
    return places.reshape(scores.shape)


def _first_bits(counts: np.ndarray, kept: float) -> float:
    """Bits that the highest byte of a value takes: in pairs of distances or alone."""
    alone = coded(bits_of_counts(counts), kept)
    top = int(np.flatnonzero(counts)[-1])
    low = max(0, top - FAR + 1)
    far = counts[:low].sum() / counts.sum()
    if far * 8 >= 1:
        return alone
    pairs = coded(2 * bits_of_counts(np.append(counts[low : top + 1], counts[:low].sum())), kept / 2)
    return pairs / 2 + far * coded(bits_of_counts(counts[:low]), far * kept)


def coded(bits: float, size: float) -> float:
    """What zstd makes of bytes with that entropy, tables included, in bits a byte; what gains too little is left alone.

    Args:
        bits: the entropy.
        size: how many bytes there are.
    """
    if bits <= 0:
        return 0.0  # one byte, again and again
    bits += 8 * _TABLE / max(1.0, min(size, BLOCK))
    return bits if bits < WORTH else 8.0
