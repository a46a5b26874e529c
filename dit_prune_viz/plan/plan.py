"""The plan and its parts. All of them are immutable: a change makes a new plan, which shares what did not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.clusters import Clusters, frozen_labels
from dit_prune_viz.clustering.units import check_unit
from dit_prune_viz.errors import UserError
from dit_prune_viz.granularity import check_granularity, check_mode, choose, n_of_m
from dit_prune_viz.granularity.counts import check_sparsity
from dit_prune_viz.saliency import Saliency


@dataclass(frozen=True, eq=False)
class ClusterPlan:
    """Clusters of one layer with a sparsity each; an extension of arXiv 2607.00927, which gives none per cluster.

    unit: "row", "column" or "weight". labels: int16 (units,), ids 0..k−1, read-only. sparsity: k numbers, 0–1, or None
    for a cluster that keeps the layer's mask as it is without these clusters. beneath: an earlier clustering of the
    same layer that has a say in that mask. UserError for a sparsity outside 0–1, an unknown unit, or labels that do not
    fit.
    """

    unit: str
    labels: np.ndarray
    sparsity: tuple[float | None, ...]
    beneath: ClusterPlan | None = None

    def __post_init__(self) -> None:
        check_unit(self.unit)
        checked = tuple(None if sparsity is None else check_sparsity(sparsity) for sparsity in self.sparsity)
        object.__setattr__(self, "sparsity", checked)
        object.__setattr__(self, "labels", frozen_labels(self.labels, len(self.sparsity)))

    @property
    def k(self) -> int:
        """The number of clusters."""
        return len(self.sparsity)

    @property
    def rules(self) -> bool:
        """Whether any cluster has a sparsity of its own."""
        return any(sparsity is not None for sparsity in self.sparsity)

    def with_sparsity(self, cluster: int, sparsity: float) -> ClusterPlan:
        """The same clusters with one sparsity replaced. UserError: unknown cluster, sparsity outside 0–1."""
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

    granularity: "layer", "row" or "column", the groups that are ranked, or N:M such as "2:4", which decides the
    sparsity by itself. g_out: the layer's heterogeneity. sparsity: 0–1, of the whole layer. count: exactly how many
    weights go, as an allocation of the model's budget sets it; it rules over the sparsity. Where there are clusters,
    their sparsities rule instead. UserError for an unknown granularity, a sparsity outside 0–1, a count that is no
    whole number of at least 0, and for clusters with sparsities of their own under N:M.
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
        """The same plan at another sparsity, which rules from now on. UserError for a sparsity outside 0–1."""
        return replace(self, sparsity=check_sparsity(sparsity), count=None)


class LayerPlans(Mapping[str, LayerPlan]):
    """The plans of all layers by name, in the model's order; cannot be changed."""

    __slots__ = ("_plans",)

    def __init__(self, plans: Mapping[str, LayerPlan]) -> None:
        self._plans = dict(plans)

    def __getitem__(self, name: str) -> LayerPlan:
        return self._plans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def __repr__(self) -> str:
        return f"LayerPlans({self._plans!r})"


@dataclass(frozen=True)
class PruningPlan:
    """Everything that decides the masks of a model.

    saliency: the metric. mode: the granularity as it was asked for (one of MODES, or N:M). sparsity: the target, 0–1.
    threshold: the G_out above which layers are pruned row by row, None unless CAG chose the granularity.
    layers: layer → LayerPlan, in the model's order. allocation: the name of what shared the budget out among them.
    UserError for an unknown mode or a sparsity outside 0–1.
    """

    saliency: Saliency
    mode: str
    sparsity: float
    threshold: float | None
    layers: Mapping[str, LayerPlan]
    allocation: str = "uniform"

    def __post_init__(self) -> None:
        check_mode(self.mode)
        object.__setattr__(self, "sparsity", check_sparsity(self.sparsity))
        object.__setattr__(self, "layers", LayerPlans(self.layers))

    def layer(self, name: str) -> LayerPlan:
        """The plan of one layer. UserError if the model has no such layer."""
        if not isinstance(name, str) or name not in self.layers:
            raise UserError(f"The plan has no layer called '{name}'; choose a layer of the model that is loaded.")
        return self.layers[name]

    def with_layer(self, layer: LayerPlan) -> PruningPlan:
        """The same plan with one layer's replaced. UserError if the model has no such layer."""
        self.layer(layer.name)
        return replace(self, layers={**self.layers, layer.name: layer})

    def with_threshold(self, threshold: float) -> PruningPlan:
        """The same plan with CAG's line at another G_out: layers that change sides are ranked the other way.

        What each layer loses, its clusters and their sparsities stay. With the uniform allocation it is the plan that
        `make_plan` makes with this threshold, without scoring a layer again. UserError for a plan whose granularity
        CAG did not choose and for a threshold that is negative or NaN.
        """
        if self.threshold is None:
            raise UserError("Only CAG has a threshold, and it did not choose how this plan ranks weights; choose CAG.")
        chosen = choose("cag", {name: layer.g_out for name, layer in self.layers.items()}, "", threshold)
        layers = {
            name: layer if layer.granularity == chosen[name] else replace(layer, granularity=chosen[name])
            for name, layer in self.layers.items()
        }
        return replace(self, threshold=threshold, layers=layers)

    def with_clusters(self, layer: str, clusters: Clusters | None) -> PruningPlan:
        """The same plan with clusters for one layer, or with none (None).

        New clusters have no sparsity of their own yet, so the mask stays as it is, down to the sparsities given to
        clusters found earlier. UserError if the model has no such layer.
        """
        plan = self.layer(layer)
        if clusters is None:
            return self.with_layer(replace(plan, clusters=None))
        beneath = plan.clusters
        while beneath is not None and not beneath.rules:
            beneath = beneath.beneath
        cluster_plan = ClusterPlan(clusters.unit, clusters.labels, (None,) * clusters.k, beneath)
        return self.with_layer(replace(plan, clusters=cluster_plan))

    def with_cluster_sparsity(self, layer: str, cluster: int, sparsity: float) -> PruningPlan:
        """The same plan with another sparsity for one cluster of one layer.

        UserError for an unknown layer or cluster, a layer without clusters, a sparsity outside 0–1.
        """
        plan = self.layer(layer)
        if plan.clusters is None:
            raise UserError(f"Layer {layer} has no clusters yet; cluster its rows, columns or weights first.")
        return self.with_layer(replace(plan, clusters=plan.clusters.with_sparsity(cluster, sparsity)))
