"""Saliencies by name."""

from __future__ import annotations

from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.methods.saliency.magnitude import Magnitude
from dit_prune_viz.methods.saliency.named import named
from dit_prune_viz.methods.saliency.obs import OBS
from dit_prune_viz.methods.saliency.ria import RIA
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.methods.saliency.wanda import Wanda

METHODS = MappingProxyType(
    {"magnitude": Magnitude(), "wanda": Wanda(), "ria": RIA(), "dit-pruning": STW(), "obs": OBS()}
)
"""The methods a person picks by name."""

_FREE = {"stw": (STW, 2), "ria": (RIA, 1), "obs": (OBS, 1)}


def find_method(method: str | Saliency) -> Saliency:
    """The saliency called `method`; a saliency object is returned as it is.

    Besides the names in METHODS, "stw:1.5,1" is STW(m=1.5, n=1), "ria:0.7" is RIA(a=0.7), "obs:1" is OBS(power=1).
    UserError for an unknown name, or for numbers that the method does not take.
    """
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    if isinstance(method, str):
        found = named(method, _FREE)
        if found is not None:
            return found
    if not callable(getattr(method, "score", None)):
        raise UserError(f"There is no pruning method {brief(method)}; choose one of {', '.join(METHODS)}, stw:m,n.")
    return method
