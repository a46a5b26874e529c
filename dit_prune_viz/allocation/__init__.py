"""Allocation: how the weights to remove are shared out among the layers, exact to one weight over the whole model."""

from dit_prune_viz.allocation.budget import Allocation
from dit_prune_viz.allocation.cost import LayerCost, layer_cost
from dit_prune_viz.allocation.damage_aware import DamageAware
from dit_prune_viz.allocation.find import ALLOCATIONS, find_allocation
from dit_prune_viz.allocation.global_ranking import NORMALISATIONS, GlobalRanking
from dit_prune_viz.allocation.owl import OWL
from dit_prune_viz.allocation.tempered import Tempered
from dit_prune_viz.allocation.uniform import Uniform

__all__ = [
    "ALLOCATIONS",
    "NORMALISATIONS",
    "OWL",
    "Allocation",
    "DamageAware",
    "GlobalRanking",
    "LayerCost",
    "Tempered",
    "Uniform",
    "find_allocation",
    "layer_cost",
]
