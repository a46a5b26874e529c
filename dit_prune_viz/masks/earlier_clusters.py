"""What earlier clusterings of a layer still say about its mask, however often it was clustered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dit_prune_viz.clustering.units import count_units, weights_of
from dit_prune_viz.errors import UserError

_DOES_NOT_FIT = "The clusters of this layer belong to a layer of another shape; cluster again."


@dataclass(frozen=True, eq=False)
class EarlierClusters:
    """The earlier clusters with a sparsity of their own that still decide some weight, in one labelling.

    Each of them is ranked as a whole, also where a later one took weights over, so they overlap: the labelling holds
    the parts into which they divide the layer.

    unit: of the labels: "row" or "column" if all the clusters are of that unit, else "weight". labels: (units,), the
    part of each unit, 0..n−1, in the smallest unsigned type, read-only. units, sparsity: of each of the c clusters, the
    oldest first; where two overlap the later one decides. members: (c, n) bool, the parts of each cluster.
    """

    unit: str
    labels: np.ndarray
    units: tuple[str, ...]
    sparsity: tuple[float, ...]
    members: np.ndarray

    def cluster(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Bool (units,): which units of a layer (d_out, d_in) are in a cluster, in the cluster's own unit.

        UserError if the labels do not fit the shape.
        """
        labels = self._labels(shape)
        if self.units[index] != self.unit:
            table = labels.reshape(shape)
            labels = {"row": table[:, 0], "column": table[0]}[self.units[index]]
        return self.members[index][labels]

    def deciding(self, shape: tuple[int, int]) -> np.ndarray:
        """(units,) int64: 0 for what no cluster decides, else 1 + the index of the one that does.

        UserError if the labels do not fit the shape.
        """
        return _last(self.members)[self._labels(shape)]

    def _labels(self, shape: tuple[int, int]) -> np.ndarray:
        if len(self.labels) != count_units(shape, self.unit):
            raise UserError(_DOES_NOT_FIT)
        return self.labels

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EarlierClusters):
            return NotImplemented
        same = (self.unit, self.units, self.sparsity) == (other.unit, other.units, other.sparsity)
        return same and all(np.array_equal(getattr(self, part), getattr(other, part)) for part in ("labels", "members"))

    def __hash__(self) -> int:
        return hash((self.unit, self.units, self.sparsity, len(self.labels)))


def collapse(
    unit: str, labels: np.ndarray, sparsity: Sequence[float | None], old: EarlierClusters | None
) -> EarlierClusters | None:
    """What a clustering, and what was decided before it, still decide together; None where nothing.

    A cluster all of whose weights later ones took over is forgotten.

    Args:
        unit: of the clustering, as `ClusterPlan` has it; `labels` and `sparsity` too.
        labels: (units,), ids 0..k−1.
        sparsity: k numbers, or None.
        old: what is beneath the clustering.

    Raises:
        UserError: clusterings of different shapes.
    """
    ruling = [index for index, own in enumerate(sparsity) if own is not None]
    if not ruling:
        return old
    numbers = np.zeros(len(sparsity), np.int64)
    numbers[ruling] = np.arange(1, len(ruling) + 1)
    new = numbers[labels]
    if old is None:
        old = EarlierClusters(unit, np.zeros(len(new), np.uint8), (), (), np.zeros((0, 1), bool))
    common, before, new = _together(old, unit, new)
    pairs, place = np.unique(before.astype(np.int64) * (len(ruling) + 1) + new, return_inverse=True)
    before, new = np.divmod(pairs, len(ruling) + 1)
    members = np.concatenate([old.members[:, before], new == np.arange(1, len(ruling) + 1)[:, None]])
    alive = np.unique(_last(members))
    alive = alive[alive > 0] - 1
    if not len(alive):
        return None  # the clusters had no units
    members, part = np.unique(members[alive], axis=1, return_inverse=True)
    units = (*old.units, *(unit for _ in ruling))
    shares = (*old.sparsity, *(sparsity[index] for index in ruling))
    return EarlierClusters(
        common,
        _frozen(part.reshape(-1)[place].astype(np.min_scalar_type(members.shape[1] - 1))),
        tuple(units[index] for index in alive),
        tuple(shares[index] for index in alive),
        _frozen(members),
    )


def _together(old: EarlierClusters, unit: str, new: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """(unit, old labels, new labels) in one unit that holds both."""
    if old.unit == unit:
        if len(old.labels) != len(new):
            raise UserError(_DOES_NOT_FIT)
        return unit, old.labels, new
    known = {old.unit: len(old.labels), unit: len(new)}
    rows, columns = known.get("row"), known.get("column")
    weights = known["weight"] if "weight" in known else rows * columns
    shape = rows or weights // columns, columns or weights // rows
    if shape[0] * shape[1] != weights:
        raise UserError(_DOES_NOT_FIT)
    both = (old.labels.astype(np.int64), old.unit), (new, unit)
    return "weight", *(weights_of(labels, shape, name).flatten().numpy() for labels, name in both)


def _last(members: np.ndarray) -> np.ndarray:
    """(parts,) int64: 1 + the last cluster (clusters, parts) that has the part, 0 where none has."""
    counted = members * np.arange(1, len(members) + 1, dtype=np.int64)[:, None]
    return counted.max(axis=0, initial=0)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
