"""The methods that are known by name: the built-in ones and those that a person registers."""

from __future__ import annotations

import inspect
from typing import TypeVar

from dit_prune_viz.calibration.statistics import check_needs
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.base import Method

KINDS = ("saliency", "granularity", "allocation", "search", "update")

_METHODS: dict[str, dict[str, type[Method]]] = {kind: {} for kind in KINDS}

Class = TypeVar("Class", bound=type[Method])


def register(method: Class) -> Class:
    """Make a method known by its name to recipes, the command line, the API and the page; a class decorator.

    A class of the same module and name may be registered again, as a notebook's cell does that is run twice.

    Args:
        method: a subclass of `Saliency`, `Granularity`, `Allocation`, `Search` or `Update`. Without a `name` of its own
            it is called after its class, in lower case; without a `label`, after its class.

    Returns:
        The class itself.

    Raises:
        UserError: no such subclass, a name that is taken or cannot be written in a recipe, an unknown statistic.
    """
    kind = getattr(method, "kind", "")
    if not inspect.isclass(method) or kind not in KINDS:
        raise UserError(f"{brief(method)} is no method; subclass Saliency, Granularity, Allocation, Search or Update.")
    if inspect.isabstract(method):
        missing = ", ".join(sorted(method.__abstractmethods__))
        raise UserError(f"{method.__name__} has no {missing}; write it, then register the class.")
    method.name = vars(method).get("name") or method.__name__.lower()
    method.label = vars(method).get("label") or method.__name__
    if not method.name.replace("-", "").isalnum() or method.name != method.name.lower():
        raise UserError(f"A method's name is lower-case letters, digits and hyphens, not {brief(method.name)}.")
    if isinstance(method.needs, str):  # ("norm") is meant to be ("norm",)
        method.needs = (method.needs,)
    check_needs(method.needs, method.label)
    known = _METHODS[kind].get(method.name)
    if known is not None and (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise UserError(f"There is a {kind} called {method.name} already; give yours another name.")
    _METHODS[kind][method.name] = method
    return method


def registered(kind: str) -> dict[str, type[Method]]:
    """Name → class of every method of a kind, in the order of registration."""
    return dict(_METHODS[kind])
