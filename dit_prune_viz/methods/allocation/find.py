"""Allocations by name."""

from __future__ import annotations

from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation.budget import Allocation
from dit_prune_viz.methods.allocation.damage_aware import DamageAware
from dit_prune_viz.methods.allocation.global_ranking import GlobalRanking
from dit_prune_viz.methods.allocation.owl import OWL
from dit_prune_viz.methods.allocation.tempered import Tempered
from dit_prune_viz.methods.allocation.uniform import Uniform
from dit_prune_viz.methods.saliency.named import named

ALLOCATIONS = MappingProxyType(
    {
        "uniform": Uniform(),
        "owl": OWL(),
        "tempered": Tempered(),
        "damage-aware": DamageAware(),
        "global": GlobalRanking(),
    }
)
"""The allocations a person picks by name."""

_FREE = {"owl": (OWL, 2), "tempered": (Tempered, 1), "damage-aware": (DamageAware, 2)}


def find_allocation(allocation: str | Allocation) -> Allocation:
    """The allocation called `allocation`; an allocation object is returned as it is.

    Numbers may follow a colon: "tempered:0.6" is Tempered(lam=0.6), "owl:5,0.08" OWL(m=5, spread=0.08),
    "damage-aware:0.1,0.9" DamageAware(floor=0.1, ceiling=0.9), and "global:sum" GlobalRanking("sum"). UserError for an
    unknown name and for numbers that it does not take.
    """
    if isinstance(allocation, str):
        if allocation in ALLOCATIONS:
            return ALLOCATIONS[allocation]
        if allocation.startswith("global:"):
            return GlobalRanking(allocation.removeprefix("global:"))
        found = named(allocation, _FREE)
        if found is not None:
            return found
    if not callable(getattr(allocation, "counts", None)):
        choices = ", ".join(ALLOCATIONS)
        raise UserError(f"There is no allocation {brief(allocation)}; choose one of {choices}.")
    return allocation
