"""The pruning plan: everything that decides the masks, and what they are predicted to cost."""

from dit_prune_viz.plan.clusters import allocate_clusters
from dit_prune_viz.plan.counts import remaining_parameters
from dit_prune_viz.plan.curves import damage_curves
from dit_prune_viz.plan.damage import ClusterDamage, cluster_damage, damage, damage_second_moment
from dit_prune_viz.plan.make import make_plan
from dit_prune_viz.plan.plan import ClusterPlan, LayerPlan, LayerPlans, PruningPlan
from dit_prune_viz.plan.redistribute import redistribute

__all__ = [
    "ClusterDamage",
    "ClusterPlan",
    "LayerPlan",
    "LayerPlans",
    "PruningPlan",
    "allocate_clusters",
    "cluster_damage",
    "damage",
    "damage_curves",
    "damage_second_moment",
    "make_plan",
    "redistribute",
    "remaining_parameters",
]
