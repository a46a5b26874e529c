"""No pruning: for recipes that only round weights, and for the dense model as one of several recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.magnitude import Magnitude


@register
@dataclass(frozen=True)
class Keep(Magnitude):
    """All weights stay, whatever sparsity is asked for; where one has to be drawn or cut by hand, |W| is the score."""

    name: ClassVar[str] = "none"
    label: ClassVar[str] = "Nothing is pruned"
    formula: ClassVar[str] = "all weights stay"
    prunes: ClassVar[bool] = False
