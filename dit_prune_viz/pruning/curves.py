"""How the damage of every cluster grows with its sparsity: what a slider shows while it moves."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.damage import Labelled
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.float64 import float64_capable

POINTS = 41
SAMPLE = 1 << 18


def damage_curves(
    scores: Tensor,
    weight: Tensor,
    mean_square: Tensor,
    clusters: Labelled,
    granularity: str,
    *,
    points: int = POINTS,
    sample: int = SAMPLE,
) -> np.ndarray:
    """Predicted damage of every cluster as its sparsity grows.

    Damage is the cluster's pruned energy ÷ the energy of the whole layer, as in `cluster_damage`. Small layers are
    ranked exactly; between the points, and where a group's count is rounded down, damages are interpolated. Of larger
    layers, evenly spaced weights stand for all, or rows where each row is ranked by itself; every curve still ends at
    the exact energy of its cluster.

    Args:
        scores: (d_out, d_in), by which the weights are ranked.
        weight: (d_out, d_in), only read.
        mean_square: E[x_j²] of the inputs (d_in,).
        clusters: k clusters of the layer.
        granularity: "layer", "row" or "column".
        points: sparsities, evenly from 0 to 1.
        sample: weights that are ranked at most.

    Returns:
        float32 (k, points), each row rising from 0.

    Raises:
        UserError: N:M, which leaves no sparsity to choose.
    """
    if n_of_m(granularity):
        raise UserError(f"{granularity} leaves no sparsity to choose per cluster; rank by layer, row or column first.")
    table, dense = float64_capable(scores).cpu().numpy(), float64_capable(weight).cpu()
    dense = (dense if dense.dtype.itemsize >= 4 else dense.float()).numpy()
    square = float64_capable(mean_square).cpu().numpy()
    labels = _table_labels(clusters, dense.shape)
    at = np.linspace(0, 1, points)
    if granularity == "layer":
        curves = _of_layer(table, dense, square, labels, clusters.k, at, sample)
    elif granularity == "row":
        curves = _of_rows(table, dense, square[None], labels, clusters, at, sample)
    else:
        curves = _of_rows(table.T, dense.T, square[:, None], labels.T, clusters, at, sample)
    ends = _energies(dense, square, clusters)
    last = curves[:, -1:]
    return np.where(last > 0, curves / np.where(last > 0, last, 1) * ends[:, None], 0).astype(np.float32)


def _table_labels(clusters: Labelled, shape: tuple[int, int]) -> np.ndarray:
    if clusters.unit == "weight":
        return clusters.labels.reshape(shape)
    return np.broadcast_to(clusters.labels[:, None] if clusters.unit == "row" else clusters.labels, shape)


def _energies(dense: np.ndarray, square: np.ndarray, clusters: Labelled) -> np.ndarray:
    """The share of the layer's energy in every cluster (k,)."""
    if clusters.unit == "row":
        sums = np.einsum("ij,ij,j->i", dense, dense, square.astype(dense.dtype), optimize=False).astype(np.float64)
    elif clusters.unit == "column":
        sums = np.einsum("ij,ij->j", dense, dense).astype(np.float64) * square
    else:
        sums = (dense * dense * square.astype(dense.dtype)).ravel()
    energy = np.bincount(clusters.labels, weights=sums, minlength=clusters.k)
    return energy / (energy.sum() or 1.0)


def _of_layer(table, dense, square, labels, k: int, at: np.ndarray, sample: int) -> np.ndarray:
    """One ranking per cluster over the whole layer."""
    step = max(1, -(-table.size // sample))
    while step > 1 and math.gcd(step, table.shape[1]) != 1:  # no column is left out
        step += 1
    rows, columns = np.divmod(np.arange(0, table.size, step), table.shape[1])
    scores, ids = table[rows, columns], labels[rows, columns]
    energy = np.square(dense[rows, columns], dtype=np.float64) * square[columns]
    curves = np.zeros((k, len(at)))
    order = np.lexsort((scores, ids))
    bounds = np.searchsorted(ids[order], np.arange(k + 1))
    for i in range(k):
        own = energy[order[bounds[i] : bounds[i + 1]]]
        rising = np.concatenate([[0.0], np.cumsum(own)])
        curves[i] = np.interp(at * len(own), np.arange(len(rising)), rising)
    return curves


def _of_rows(table, dense, square, labels, clusters: Labelled, at: np.ndarray, sample: int) -> np.ndarray:
    """A ranking of its own in every row (rows of `table`, which may stand for columns of the layer)."""
    curves = np.zeros((clusters.k, len(at)))
    whole_rows = len(labels) == len(clusters.labels) and bool((labels == labels[:, :1]).all())
    room = max(1, sample // table.shape[1] // (clusters.k if whole_rows else 1))
    for i in range(clusters.k):
        rows = np.flatnonzero(labels[:, 0] == i) if whole_rows else np.arange(len(table))
        if not len(rows):
            continue
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(room, len(rows))).astype(int))]
        inside = labels[rows] == i
        scores = np.where(inside, table[rows], np.inf)
        energy = np.square(dense[rows], dtype=np.float64) * (square if square.shape[0] == 1 else square[rows])
        energy[~inside] = 0
        order = np.argsort(scores, axis=1)
        rising = np.zeros((len(rows), table.shape[1] + 1))
        np.cumsum(np.take_along_axis(energy, order, axis=1), axis=1, out=rising[:, 1:])
        counts = np.floor(inside.sum(1)[:, None] * at + 1e-9).astype(np.int64)
        curves[i] = np.take_along_axis(rising, counts, axis=1).sum(0)
    return curves
