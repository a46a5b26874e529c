"""Saliency: how much a single weight matters, from the weight and the norm of the input it multiplies."""

from __future__ import annotations

from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.saliency.base import Saliency, layer_scores
from dit_prune_viz.saliency.magnitude import Magnitude
from dit_prune_viz.saliency.stw import STW
from dit_prune_viz.saliency.wanda import Wanda

METHODS = MappingProxyType({"magnitude": Magnitude(), "wanda": Wanda(), "dit-pruning": STW()})
"""The methods a person picks by name."""

__all__ = ["METHODS", "STW", "Magnitude", "Saliency", "Wanda", "find_method", "layer_scores"]


def find_method(method: str | Saliency) -> Saliency:
    """The saliency called `method`; a saliency object is returned as it is. UserError for an unknown name."""
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    if not callable(getattr(method, "score", None)):
        raise UserError(f"There is no pruning method {brief(method)}; choose one of {', '.join(METHODS)}.")
    return method
