"""How one layer is pruned: its groups, its counts, its clusters. Immutable: a change makes a new plan."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.clusters import Tag, frozen_labels
from dit_prune_viz.clustering.units import check_unit, count_units, weights_of
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.earlier_clusters import EarlierClusters, collapse
from dit_prune_viz.masks.groups import check_granularity, n_of_m


@dataclass(frozen=True, eq=False)
class ClusterPlan:
    """Clusters of one layer with a sparsity each; an extension of arXiv 2607.00927, which gives none per cluster.

    Attributes:
        unit: "row", "column" or "weight".
        labels: (units,), ids 0..k−1, read-only, see `frozen_labels`.
        sparsity: k numbers, 0–1, or None for a cluster that keeps the layer's mask as it is without these clusters.
        beneath: what earlier clusterings of the same layer say about that mask; a ClusterPlan given here is collapsed
            into that, with all that is beneath it.
        tags: how a person knows the k clusters; () where nobody named them. They play no part in comparisons.

    Raises:
        UserError: a sparsity outside 0–1, an unknown unit, labels that do not fit, or tags that are not k.
    """

    unit: str
    labels: np.ndarray
    sparsity: tuple[float | None, ...]
    beneath: EarlierClusters | ClusterPlan | None = None
    tags: tuple[Tag, ...] = ()

    def __post_init__(self) -> None:
        check_unit(self.unit)
        checked = tuple(None if sparsity is None else check_sparsity(sparsity) for sparsity in self.sparsity)
        object.__setattr__(self, "sparsity", checked)
        object.__setattr__(self, "labels", frozen_labels(self.labels, len(self.sparsity)))
        if self.tags and len(self.tags) != len(self.sparsity):
            raise UserError(f"There are {len(self.sparsity)} clusters but {len(self.tags)} names; cluster again.")
        if isinstance(self.beneath, ClusterPlan):
            under = self.beneath
            object.__setattr__(self, "beneath", collapse(under.unit, under.labels, under.sparsity, under.beneath))

    @property
    def k(self) -> int:
        """The number of clusters."""
        return len(self.sparsity)

    @property
    def rules(self) -> bool:
        """Whether any cluster has a sparsity of its own."""
        return any(sparsity is not None for sparsity in self.sparsity)

    @property
    def decides(self) -> bool:
        """Whether any cluster, also of an earlier clustering, decides about some of the layer's weights."""
        return self.rules or self.beneath is not None

    def pinned_groups(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Which weights are counted together.

        Two weights have the same id if they are in the same cluster here, unless none of these has a sparsity, and if
        the same earlier cluster, or none, decides them otherwise.

        Args:
            shape: (d_out, d_in) of the layer.

        Returns:
            int64 (d_out, d_in), ids 0..n−1; None where no cluster has a sparsity.

        Raises:
            UserError: the clusters do not fit the shape.
        """
        layers = [(self.labels, self.unit, self.k)] if self.rules else []
        if self.beneath is not None:
            layers.append((self.beneath.deciding(shape), self.beneath.unit, len(self.beneath.units) + 1))
        if not layers:
            return None
        ids = np.zeros(shape, np.int64)
        for labels, unit, many in layers:
            if len(labels) != count_units(shape, unit):
                raise UserError("The clusters of this layer belong to a layer of another shape; cluster again.")
            ids = ids * many + weights_of(labels.astype(np.int64), shape, unit).numpy()
        return np.unique(ids, return_inverse=True)[1].reshape(shape)

    def with_sparsity(self, cluster: int, sparsity: float) -> ClusterPlan:
        """The same clusters with the sparsity of one replaced.

        Raises:
            UserError: an unknown cluster, a sparsity outside 0–1.
        """
        if isinstance(cluster, bool) or not isinstance(cluster, int | np.integer) or not 0 <= cluster < self.k:
            raise UserError(f"There is no cluster {cluster}; the layer has clusters 0 to {self.k - 1}.")
        sparsities = list(self.sparsity)
        sparsities[cluster] = check_sparsity(sparsity)
        return replace(self, sparsity=tuple(sparsities))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterPlan):
            return NotImplemented
        same = self.unit == other.unit and self.sparsity == other.sparsity and self.beneath == other.beneath
        return same and np.array_equal(self.labels, other.labels)

    def __hash__(self) -> int:
        return hash((self.unit, self.sparsity, len(self.labels)))


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is pruned.

    Attributes:
        name: of the layer.
        granularity: "layer", "row" or "column", the groups that are ranked, or N:M such as "2:4", which decides the
            sparsity by itself.
        g_out: the layer's heterogeneity, no unit.
        sparsity: 0–1, of the whole layer.
        clusters: their sparsities, where they have any, go before sparsity and count.
        count: exactly how many weights go, as an allocation of the model's budget sets it; it goes before the sparsity.

    Raises:
        UserError: an unknown granularity, a sparsity outside 0–1, a count that is no whole number of at least 0, or
            clusters with sparsities of their own under N:M.
    """

    name: str
    granularity: str
    g_out: float
    sparsity: float
    clusters: ClusterPlan | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        check_granularity(self.granularity)
        object.__setattr__(self, "sparsity", check_sparsity(self.sparsity))
        if self.count is not None:
            object.__setattr__(self, "count", whole(self.count, "The number of weights to remove", 0, 2**62))
        if n_of_m(self.granularity) and self.clusters is not None and self.clusters.rules:
            raise UserError(
                f"Layer {self.name} is pruned {self.granularity}, which leaves no sparsity to choose per cluster; "
                "rank it by layer, row or column first."
            )

    def with_sparsity(self, sparsity: float) -> LayerPlan:
        """The same plan at another sparsity, in the place of its count.

        Raises:
            UserError: a sparsity outside 0–1.
        """
        return replace(self, sparsity=check_sparsity(sparsity), count=None)
