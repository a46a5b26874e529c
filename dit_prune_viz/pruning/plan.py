"""The plan of a model. It is immutable: a change makes a new plan, which shares what did not change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.granularity.cag import CAG
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer, named_layers


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
    """What every layer of a model loses, and in which groups.

    Attributes:
        recipe: what the plan was made from, without layers set by hand: those are here.
        threshold: the G_out above which layers are ranked row by row; None unless CAG chose the granularity.
        layers: layer → LayerPlan, in the model's order.
        by_hand: names of the layers that do not follow from the recipe.
        adjusted: those of them that nobody set: they made up for others, or kept what they lost when CAG's line moved.
    """

    recipe: Recipe
    threshold: float | None
    layers: Mapping[str, LayerPlan]
    by_hand: frozenset[str] = frozenset()
    adjusted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", LayerPlans(self.layers))
        object.__setattr__(self, "recipe", replace(self.recipe, tuned=()) if self.recipe.tuned else self.recipe)

    def as_recipe(self) -> Recipe:
        """The recipe that makes this plan anew for the same model: the plan's own, with the layers set by hand.

        Clusters are packed, which takes a while where they are of many million single weights.
        """
        tuned = tuple(
            TunedLayer.of(layer, adjusted=name in self.adjusted)
            for name, layer in self.layers.items()
            if name in self.by_hand
        )
        return replace(self.recipe, tuned=tuned, rebalance=self.recipe.rebalance and len(tuned) < len(self.layers))

    def with_tuned(self, tuned: Iterable[TunedLayer], shapes: Mapping[str, tuple[int, int]]) -> PruningPlan:
        """The same plan with layers set as a recipe has them.

        Args:
            tuned: the layers.
            shapes: layer → (d_out, d_in), of all layers.

        Raises:
            UserError: a layer that the model does not have, or that has another shape there.
        """
        tuned = tuple(tuned)
        named_layers(tuned, self.layers)
        own = {one.name: one.plan(self.layers[one.name], shapes[one.name]) for one in tuned}
        adjusted = (self.adjusted - own.keys()) | {one.name for one in tuned if one.adjusted}
        return replace(self, layers={**self.layers, **own}, by_hand=self.by_hand | own.keys(), adjusted=adjusted)

    def layer(self, name: str) -> LayerPlan:
        """The plan of one layer.

        Raises:
            UserError: the model has no such layer.
        """
        if not isinstance(name, str) or name not in self.layers:
            raise UserError(f"The plan has no layer called '{name}'; choose a layer of the model that is loaded.")
        return self.layers[name]

    def with_layer(self, layer: LayerPlan) -> PruningPlan:
        """The same plan with one layer's replaced, which counts as set by hand from now on.

        Raises:
            UserError: the model has no such layer.
        """
        self.layer(layer.name)
        return self.with_layers({layer.name: layer})

    def with_layers(
        self, chosen: Mapping[str, LayerPlan], others: Mapping[str, LayerPlan] | None = None
    ) -> PruningPlan:
        """The same plan with layers that a person has set, and others that make up for them.

        Where the recipe has the other layers make up for what is set by hand, these keep what they lose now, so that
        they are by hand too from now on.

        Args:
            chosen: layer → its plan.
            others: layer → its plan; those of them that were set by hand before stay so.
        """
        others = dict(others or {})
        still = self.layers.keys() - self.by_hand if self.recipe.rebalance else set()
        adjusted = (self.adjusted | ((others.keys() | still) - self.by_hand)) - chosen.keys()
        return replace(
            self,
            layers={**self.layers, **others, **chosen},
            by_hand=self.by_hand | still | others.keys() | chosen.keys(),
            adjusted=adjusted,
        )

    @property
    def own_threshold(self) -> float:
        """The threshold found in the model's own G_out; infinity where they cannot be split."""
        return cag_threshold(layer.g_out for layer in self.layers.values())

    def with_threshold(self, threshold: float | None) -> PruningPlan:
        """The same plan with CAG's line at another G_out: layers that change sides are ranked the other way.

        What each layer loses, its clusters and their sparsities stay. With the uniform allocation it is the plan that
        `make_plan` makes with this threshold, without scoring a layer again. Another allocation would share the budget
        out anew, so that with it all layers count as set by hand.

        Args:
            threshold: as in `Recipe`.

        Raises:
            UserError: CAG did not choose this plan's granularity, or a threshold that is not a number of 0 or more.
        """
        if self.threshold is None:
            raise UserError("Only CAG has a threshold, and it did not choose how this plan ranks weights; choose CAG.")
        recipe = replace(self.recipe, threshold=threshold)
        line = self.own_threshold if recipe.threshold is None else recipe.threshold
        chosen = CAG().choose({name: layer.g_out for name, layer in self.layers.items()}, line)
        layers = {
            name: layer if layer.granularity == chosen[name] else replace(layer, granularity=chosen[name])
            for name, layer in self.layers.items()
        }
        kept = set(self.layers) - self.by_hand if find_method(Allocation, recipe.allocation).exact else set()
        hands = {"by_hand": self.by_hand | kept, "adjusted": self.adjusted | kept}
        return replace(self, recipe=recipe, threshold=line, layers=layers, **hands)

    def with_clusters(self, layer: str, clusters: Clusters | None) -> PruningPlan:
        """The same plan with clusters for one layer.

        New clusters have no sparsity of their own yet, so the mask stays as it is, down to the sparsities given to
        clusters found earlier.

        Args:
            layer: its name.
            clusters: of the layer; None takes them away.

        Raises:
            UserError: the model has no such layer.
        """
        plan = self.layer(layer)
        if clusters is None:
            return self.with_layer(replace(plan, clusters=None))
        none = (None,) * clusters.k
        cluster_plan = ClusterPlan(clusters.unit, clusters.labels, none, plan.clusters, clusters.tags)
        return self.with_layer(replace(plan, clusters=cluster_plan))

    def with_cluster_sparsity(self, layer: str, cluster: int, sparsity: float) -> PruningPlan:
        """The same plan with another sparsity, 0–1, for one cluster of one layer.

        Raises:
            UserError: an unknown layer or cluster, a layer without clusters, a sparsity outside 0–1.
        """
        plan = self.layer(layer)
        if plan.clusters is None:
            raise UserError(f"Layer {layer} has no clusters yet; cluster its rows, columns or weights first.")
        return self.with_layer(replace(plan, clusters=plan.clusters.with_sparsity(cluster, sparsity)))
