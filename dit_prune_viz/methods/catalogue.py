"""Methods by name, the built-in ones included."""

from __future__ import annotations

from types import MappingProxyType
from typing import TypeVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.allocation import damage_aware, global_ranking, owl, tempered, uniform  # noqa: F401
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.granularity import cag, groups  # noqa: F401
from dit_prune_viz.methods.registry import registered
from dit_prune_viz.methods.saliency import magnitude, obs, ria, stw, wanda  # noqa: F401
from dit_prune_viz.methods.search import distil, swap  # noqa: F401
from dit_prune_viz.methods.update import bias, least_squares, obs_update, tune  # noqa: F401

BUILT_IN = MappingProxyType(
    {
        "saliency": ("magnitude", "wanda", "ria", "stw", "obs"),
        "granularity": ("layer", "row", "column", "cag"),
        "allocation": ("uniform", "owl", "tempered", "damage-aware", "global"),
        "search": ("swap", "distil"),
        "update": ("mean", "obs", "least-squares", "tuned"),
    }
)
"""Kind → names of the built-in methods, in the order in which people see them, plain ones first."""

Kind = TypeVar("Kind", bound=Method)


def methods_of(kind: type[Kind]) -> dict[str, type[Kind]]:
    """Name → class of every method of a kind (`Saliency`, …): the built-in ones, then a person's own."""
    known = registered(kind.kind)
    return {name: known[name] for name in dict.fromkeys([*BUILT_IN[kind.kind], *known])}


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
