"""Methods by name, the built-in ones included."""

from __future__ import annotations

from typing import TypeVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation import damage_aware, global_ranking, owl, tempered, uniform  # noqa: F401
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.granularity import cag, groups  # noqa: F401
from dit_prune_viz.methods.registry import registered
from dit_prune_viz.methods.saliency import magnitude, none, obs, ria, stw, wanda  # noqa: F401
from dit_prune_viz.methods.search import distil, swap  # noqa: F401
from dit_prune_viz.methods.update import bias, least_squares, obs_update, rounding, tune  # noqa: F401

Kind = TypeVar("Kind", bound=Method)

_ORDER = {
    "saliency": ("stw", "wanda", "magnitude", "ria", "obs", "none"),
    "granularity": ("cag", "layer", "row", "column"),
    "allocation": ("uniform", "owl", "tempered", "damage-aware", "global"),
    "search": ("swap", "distil"),
    "update": ("mean", "obs", "least-squares", "tuned", "round"),
}
"""How people are shown the built-in methods; searches also run in this order."""


def methods_of(kind: type[Kind]) -> dict[str, type[Kind]]:
    """Name → class of every method of a kind (`Saliency`, …), built-in ones first."""
    known = registered(kind.kind)
    first = [name for name in _ORDER[kind.kind] if name in known]
    return {name: known[name] for name in (*first, *known)}


def find_method(kind: type[Kind], spec: str) -> Kind:
    """The method that a recipe names, such as "stw:1.5,1".

    Args:
        kind: `Saliency`, `Granularity`, `Allocation`, `Search` or `Update`.
        spec: a registered name; options may follow a colon, separated by commas.

    Raises:
        UserError: an unknown name, or options that the method does not take.
    """
    name, _, options = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    known = methods_of(kind)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"There is no {kind.kind} {brief(spec)}; choose one of {', '.join(known)}.")
    return known[name].parse(options)
