"""Clusters changed by hand: merged, split, carved out of a selection, renamed, carried over to another layer.

Every verb returns new `Clusters`; ids stay 0..k−1, and what is not touched keeps its name and its look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dit_prune_viz.checks import brief, whole
from dit_prune_viz.clustering.clusters import MAX_K, Clusters, Tag, cluster
from dit_prune_viz.clustering.scale import standardise
from dit_prune_viz.errors import UserError

MAX_NAME = 40
BY_HAND = "by hand"
"""What found clusters that a person has changed, in the place of an algorithm."""


def merge(clusters: Clusters, ids: Sequence[int]) -> Clusters:
    """The clusters `ids` made one, which keeps the lowest id and its tag; higher ids move up to fill the gaps.

    UserError for fewer than two ids or an unknown one.
    """
    chosen = sorted({_known(clusters, i) for i in ids})
    if len(chosen) < 2:
        raise UserError("Merging takes at least two clusters; choose another one.")
    target = np.arange(clusters.k)
    target[chosen] = chosen[0]
    noise = None if clusters.noise in chosen else clusters.noise
    return _compact(clusters, target[clusters.labels], clusters.tags, noise)


def split(clusters: Clusters, index: int, points: np.ndarray, *, seed: int = 0) -> Clusters:
    """The cluster `index` parted in two by k-means of its `points` (those of all units, (units, 2)).

    The larger part keeps id and tag, the other one comes last. UserError for an unknown cluster, one whose units all
    lie on one point, or more than 64 clusters.
    """
    index = _known(clusters, index)
    inside = np.flatnonzero(clusters.labels == index)
    halves = cluster(points[inside], unit=clusters.unit, k=2, seed=seed) if len(inside) > 1 else None
    if halves is None or halves.k < 2:
        raise UserError(f"The units of {clusters.tags[index].name} lie on one point, so it cannot be split.")
    return carve(clusters, inside[halves.labels == np.argmin(halves.sizes)], name=f"{clusters.tags[index].name}, part")


def carve(clusters: Clusters, units: np.ndarray, *, name: str | None = None) -> Clusters:
    """The given units (indices) as a cluster of their own, the last one; clusters left empty are gone.

    UserError for no units, units that the layer does not have, all units of the only cluster, more than 64 clusters.
    """
    units = np.asarray(units, dtype=np.int64)
    if not units.size:
        raise UserError("Nothing is selected; draw around dots first.")
    if units.min() < 0 or units.max() >= len(clusters.labels):
        raise UserError("The selection belongs to another layer; select again.")
    labels = clusters.labels.astype(np.int32)
    labels[units] = clusters.k
    if len(np.unique(labels)) > MAX_K:
        raise UserError(f"There are {MAX_K} clusters already; merge some first.")
    look = next(i for i in range(MAX_K + 1) if i not in {tag.look for tag in clusters.tags})
    tags = (*clusters.tags, Tag(name or f"selection {clusters.k}", look))
    return _compact(clusters, labels, tags, clusters.noise)


def with_tag(
    clusters: Clusters, index: int, *, name: str | None = None, look: int | None = None, locked: bool | None = None
) -> Clusters:
    """The same clusters with another name, colour or lock for one. UserError: unknown cluster, empty or long name."""
    index = _known(clusters, index)
    tag = clusters.tags[index]
    if name is not None:
        name = " ".join(str(name).split())
        if not name or len(name) > MAX_NAME:
            raise UserError(f"A cluster's name has 1 to {MAX_NAME} characters.")
        tag = replace(tag, name=name)
    if look is not None:
        tag = replace(tag, look=whole(look, "The colour of a cluster", 0, MAX_K))
    if locked is not None:
        tag = replace(tag, locked=bool(locked))
    return replace(clusters, tags=tuple(tag if i == index else other for i, other in enumerate(clusters.tags)))


def match(found: Clusters, before: Clusters | None) -> Clusters:
    """The clusters just `found`, with the ids, names, looks and locks of those `before` that they overlap most.

    Pairs are chosen to share the most units in all (Kuhn 1955). The partition is the same, only ids and tags change;
    clusters of another kind of unit have nothing in common.
    """
    from scipy.optimize import linear_sum_assignment

    if before is None or before.unit != found.unit or len(before.labels) != len(found.labels):
        return found
    pairs = before.labels.astype(np.int64) * found.k + found.labels
    shared = np.bincount(pairs, minlength=before.k * found.k).reshape(before.k, found.k)
    old, new = linear_sum_assignment(shared, maximize=True)
    partner = {int(n): int(o) for o, n in zip(old, new, strict=True) if shared[o, n]}
    # A matched cluster takes the id of its partner where there is such an id; the rest fill what is free, in order.
    ids = {n: o for n, o in partner.items() if o < found.k}
    free = iter(sorted(set(range(found.k)) - set(ids.values())))
    ids |= {n: next(free) for n in range(found.k) if n not in ids}
    taken = {before.tags[o].look for o in partner.values()}
    spare = iter(i for i in range(2 * MAX_K) if i not in taken)
    names = {before.tags[o].name for o in partner.values()}
    tags: list[Tag] = [Tag("", 0)] * found.k
    for n, i in sorted(ids.items(), key=lambda item: item[1]):
        name = f"cluster {i}" if f"cluster {i}" not in names else f"cluster {i}, new"
        tags[i] = before.tags[partner[n]] if n in partner else Tag(name, next(spare))
        if n in partner and partner[n] != i and tags[i].name == f"cluster {partner[n]}":
            tags[i] = replace(tags[i], name=name)  # it was called by its number, which is another one now
    order = np.array([ids[n] for n in range(found.k)], dtype=np.int16)
    noise = None if found.noise is None else ids[found.noise]
    return replace(found, labels=order[found.labels], noise=noise, tags=tuple(tags))


def carry(clusters: Clusters, points: np.ndarray, others: np.ndarray) -> Clusters:
    """The same clusters on another layer: each of its units goes to the nearest centre.

    `points` (units, 2) are those of the clusters, `others` (n, 2) the other layer's in the same projection; both are
    standardised, so that the place within its own layer counts. A cluster may be left without units.
    """
    here, there = standardise(points), standardise(others)
    sizes = np.maximum(1, clusters.sizes)
    centres = np.stack([np.bincount(clusters.labels, here[:, a], clusters.k) / sizes for a in (0, 1)], axis=1)
    centres[clusters.sizes == 0] = np.inf
    labels = np.zeros(len(there), dtype=np.int16)
    nearest = np.full(len(there), np.inf)
    for i, centre in enumerate(centres):
        distance = np.square(there - centre).sum(axis=1)
        closer = distance < nearest
        labels[closer], nearest[closer] = i, distance[closer]
    return Clusters(clusters.unit, BY_HAND, labels, clusters.k, tags=clusters.tags)


def _known(clusters: Clusters, index: object) -> int:
    good = isinstance(index, int | np.integer) and not isinstance(index, bool) and 0 <= index < clusters.k
    if not good:
        raise UserError(f"There is no cluster {brief(index)}; the layer has clusters 0 to {clusters.k - 1}.")
    return int(index)


def _compact(clusters: Clusters, labels: np.ndarray, tags: Sequence[Tag], noise: int | None) -> Clusters:
    """Clusters with these labels, ids without gaps, in the same order."""
    ids, compact = np.unique(labels, return_inverse=True)
    left = None if noise is None or noise not in ids else int(np.searchsorted(ids, noise))
    return Clusters(
        clusters.unit, BY_HAND, compact.astype(np.int16), len(ids), noise=left, tags=tuple(tags[i] for i in ids)
    )
