"""From scores to masks, with exact counts: a group of n weights at sparsity s loses floor(n·s).

The weights with the smallest scores go; of equal scores the one with the lowest index, counted row by row, goes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.units import UNITS, count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.groups import check_granularity, n_of_m
from dit_prune_viz.masks.row_pieces import row_pieces
from dit_prune_viz.masks.smallest import smallest
from dit_prune_viz.masks.smallest_gpu import keep_greatest


def keep_mask(scores: Tensor, *, sparsity: float, granularity: str = "layer", count: int | None = None) -> Tensor:
    """The mask that prunes the smallest scores, over the layer or inside each group.

    Args:
        scores: (d_out, d_in), finite.
        sparsity: 0–1.
        granularity: "layer", "row" or "column", or N:M, such as "2:4", which keeps the N greatest of every M and takes
            no notice of the sparsity.
        count: an exact number of weights in the place of the sparsity. Each of g rows (or columns) loses
            floor(count / g); then go the smallest of what would go next in each until the count is reached.

    Returns:
        (d_out, d_in) bool, True = kept.

    Raises:
        UserError: a sparsity outside 0–1, an unknown granularity, scores that are NaN or infinite, a count that the
            layer or N:M cannot have.
    """
    return keep_masks([scores], sparsity=[sparsity], granularity=[granularity], count=[count])[0]


def keep_masks(
    scores: Sequence[Tensor],
    *,
    sparsity: Sequence[float],
    granularity: Sequence[str],
    count: Sequence[int | None] | None = None,
) -> list[Tensor]:
    """`keep_mask` of several layers, one entry of each sequence for each; a GPU is launched and waited for together.

    Raises:
        UserError: as in `keep_mask`.
        ValueError: sequences of different lengths.
    """
    count = [None] * len(scores) if count is None else count
    asked = [
        (table := _table(one, how), share, how, number if number is None else _checked_count(number, table, how))
        for one, share, how, number in zip(scores, sparsity, granularity, count, strict=True)
    ]
    kept = _on_gpu(asked)
    return [_keep(*one) if mask is None else mask for one, mask in zip(asked, kept, strict=True)]


def _keep(scores: Tensor, sparsity: float, granularity: str, count: int | None) -> Tensor:
    """The mask of one table."""
    scores = _finite(scores)
    if count is not None:
        return ~_prune_count(scores, count, granularity)
    pattern = n_of_m(granularity)
    if pattern:
        return n_m_mask(scores, *pattern)
    if granularity == "column":
        return ~_prune(scores.T.contiguous(), check_sparsity(sparsity), "row").T
    return ~_prune(scores, check_sparsity(sparsity), granularity)


def keep_mask_groups(
    scores: Tensor,
    labels: np.ndarray | Tensor,
    sparsities: Sequence[float | None],
    granularity: str,
    unit: str,
    base: Tensor | None = None,
) -> Tensor:
    """The mask with a sparsity of its own for every cluster of rows, columns or single weights.

    A cluster of N weights loses floor(N·s) of them, the smallest of the cluster. Granularity "row" ranks inside the
    rows instead: each row gives floor(n·s) of its n weights in the cluster, and for clusters of columns or weights,
    whose share of a row may be small, the cluster is then filled up to floor(N·s) with the smallest of what would go
    next in each row. "column" is the same with rows and columns changing places. An extension of arXiv 2607.00927,
    which gives clusters no sparsity of their own.

    Args:
        scores: (d_out, d_in), finite.
        labels: cluster id 0..k−1 of every unit: (d_out,) rows, (d_in,) columns or (d_out·d_in,) weights.
        sparsities: of the k clusters, 0–1; None keeps what `base` says.
        granularity: "layer", "row" or "column".
        unit: of the labels: "row", "column" or "weight".
        base: another mask (d_out, d_in) of the layer; None keeps all.

    Returns:
        (d_out, d_in) bool, True = kept.

    Raises:
        UserError: as in `keep_mask`, labels that do not fit, and N:M, which leaves no sparsity to choose.
    """
    scores = _checked(scores, granularity)
    if n_of_m(granularity) and any(sparsity is not None for sparsity in sparsities):
        raise UserError(f"{granularity} leaves no sparsity to choose per cluster; rank by layer, row or column first.")
    if granularity == "column":
        turned = _checked_labels(labels, scores, len(sparsities), unit)
        if unit == "weight":
            turned = turned.view(scores.shape).T.reshape(-1)
        unit = {"row": "column", "column": "row"}.get(unit, unit)
        base = None if base is None else base.T
        return keep_mask_groups(scores.T.contiguous(), turned, sparsities, "row", unit, base).T.contiguous()
    sparsities = [sparsity if sparsity is None else check_sparsity(sparsity) for sparsity in sparsities]
    labels = _checked_labels(labels, scores, len(sparsities), unit)
    if base is None:
        base = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    pruned = ~base
    for cluster, sparsity in enumerate(sparsities):
        members = labels == cluster
        if sparsity is None or not members.any():
            continue
        if unit == "row":
            pruned[members] = _prune(scores[members], sparsity, granularity)
        elif unit == "column":
            block = scores[:, members]
            pruned[:, members] = (
                _prune(block, sparsity, granularity)
                if granularity == "layer"
                else _prune_shares(block, block.new_full((len(block),), block.shape[1], dtype=torch.int64), sparsity)
            )
        else:
            members = members.view(scores.shape)
            pruned[members] = _prune_ragged(scores, members, sparsity, granularity)
    return ~pruned


def n_m_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """The N:M mask: of every `m` consecutive inputs of a row the `n` greatest scores stay.

    Args:
        scores: (d_out, d_in), finite.
        n: how many stay, at least 1.
        m: of how many; divides d_in.

    Returns:
        (d_out, d_in) bool, True = kept.

    Raises:
        UserError: numbers that do not fit, or scores that are NaN or infinite.
    """
    scores = _checked(scores, "row")
    if not 1 <= n <= m or scores.shape[1] % m:
        raise UserError(f"{n}:{m} does not fit a layer with {scores.shape[1]} inputs; m must divide them, 1 ≤ n ≤ m.")
    return ~smallest(scores.reshape(-1, m), m - n).view(scores.shape)


def _on_gpu(asked: Sequence[tuple[Tensor, float, str, int | None]]) -> list[Tensor | None]:
    """The masks of tables with sparsity, granularity and count, in two readings; None where a GPU has no short way."""
    places, rows, counts = [], [], []
    for place, (scores, sparsity, granularity, count) in enumerate(asked):
        if scores.is_cuda and (granularity == "layer" or (granularity == "row" and count is None)):
            table = scores if granularity == "row" else scores.reshape(1, -1)
            places.append(place)
            rows.append(table)
            counts.append(removed(table.shape[1], check_sparsity(sparsity)) if count is None else count)
    kept: list[Tensor | None] = [None] * len(asked)
    for place, mask in zip(places, keep_greatest(rows, counts), strict=True):
        kept[place] = None if mask is None else mask.view(asked[place][0].shape)
    return kept


def _prune(block: Tensor, sparsity: float, granularity: str) -> Tensor:
    """Bool of the block's shape (r, c), True = pruned; the block is one group, or one group per row."""
    rows = block if granularity == "row" else block.reshape(1, -1)
    if not rows.numel():
        return torch.zeros(block.shape, dtype=torch.bool, device=block.device)
    return smallest(rows, removed(rows.shape[1], sparsity)).view(block.shape)


def _prune_ragged(scores: Tensor, members: Tensor, sparsity: float, granularity: str) -> Tensor:
    """Bool (number of members,), True = pruned, for a cluster that takes any weights of the layer."""
    values = scores[members]
    if granularity == "layer":
        return _prune(values[None], sparsity, granularity)[0]
    # The members of each row move to its left, filled up with +inf, which is never among the smallest.
    sizes = members.sum(1)
    row = torch.repeat_interleave(torch.arange(len(sizes), device=scores.device), sizes)
    column = torch.arange(len(values), device=scores.device) - (sizes.cumsum(0) - sizes)[row]
    padded = torch.full((len(sizes), int(sizes.max())), torch.inf, device=scores.device)
    padded[row, column] = values
    return _prune_shares(padded, sizes, sparsity)[row, column]


def _prune_shares(table: Tensor, sizes: Tensor, sparsity: float) -> Tensor:
    """Bool (r, c), True = pruned: floor(N·s) of a cluster whose share of row i are the first sizes[i] of table[i]."""
    counts = torch.tensor([removed(size, sparsity) for size in sizes.tolist()], device=table.device)
    pruned = smallest(table, counts)
    return _fill_up(table, pruned, removed(int(sizes.sum()), sparsity))


def _prune_count(scores: Tensor, count: int, granularity: str) -> Tensor:
    """Bool of the table's shape, True = pruned: exactly `count` of the layer, spread evenly over the groups."""
    if granularity == "layer":
        return smallest(scores.view(1, -1), count).view(scores.shape)
    if granularity == "column":
        return _prune_count(scores.T.contiguous(), count, "row").T
    pattern = n_of_m(granularity)
    if pattern:
        return ~n_m_mask(scores, *pattern)
    return _fill_up(scores, smallest(scores, count // scores.shape[0]), count)


def _fill_up(table: Tensor, pruned: Tensor, count: int) -> Tensor:
    """`pruned` (r, c) up to `count` in all, by fewer than r: each row gives its next weight, the smallest of these go.

    The rows of `table` hold +inf where they have no weights.
    """
    missing = count - int(torch.count_nonzero(pruned))
    if not missing:
        return pruned
    edges, places = [], []
    for part, gone in row_pieces(table, pruned):
        left = part.masked_fill(gone, torch.inf)
        edge = left.amin(1)
        edges.append(edge)
        places.append((left == edge[:, None]).to(torch.uint8).argmax(1))  # the first, as torch promises
    edge, place = torch.cat(edges), torch.cat(places)
    rows = torch.nonzero(smallest(edge[None], missing)[0] & edge.isfinite()).flatten()
    pruned[rows, place[rows]] = True
    return pruned


def _table(scores: Tensor, granularity: str) -> Tensor:
    check_granularity(granularity)
    if scores.ndim != 2 or not scores.numel():
        raise UserError(f"Scores must fill a table of rows and columns, but their shape is {tuple(scores.shape)}.")
    return scores.detach().to(torch.float32)


def _checked(scores: Tensor, granularity: str) -> Tensor:
    return _finite(_table(scores, granularity))


def _finite(scores: Tensor) -> Tensor:
    if not torch.isfinite(torch.stack(scores.aminmax())).all():
        raise UserError("The scores hold NaN or infinite values, so they cannot be ranked; check weights and norms.")
    return scores


def _checked_count(count: object, scores: Tensor, granularity: str) -> int:
    count = whole(count, "The number of weights to remove from a layer", 0, scores.numel())
    pattern = n_of_m(granularity)
    if pattern and count * pattern[1] != scores.numel() * (pattern[1] - pattern[0]):
        raise UserError(f"{granularity} removes a fixed share of a layer, not {count:,} of {scores.numel():,} weights.")
    return count


def _checked_labels(labels: np.ndarray | Tensor, scores: Tensor, k: int, unit: str) -> Tensor:
    if unit not in UNITS:
        raise UserError(f"There is no unit '{unit}'; choose one of {', '.join(UNITS)}.")
    # torch warns about arrays that may not be written to, so a read-only one is copied.
    labels = torch.as_tensor(np.array(labels) if isinstance(labels, np.ndarray) else labels).to(scores.device)
    expected = count_units(tuple(scores.shape), unit)
    if labels.shape != (expected,):
        raise UserError(f"The layer has {expected} units ({unit}), but {labels.numel()} have a cluster; cluster again.")
    if int(labels.min()) < 0 or int(labels.max()) >= k:
        raise UserError(f"Cluster ids must run from 0 to {k - 1}, one sparsity for each; cluster again.")
    return labels
