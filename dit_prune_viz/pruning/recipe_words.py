"""A recipe in a few plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dit_prune_viz.calibration.timestep_weights import SCHEMES
from dit_prune_viz.formatting import percent
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.pruning.limits import Bounds
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, name_of
from dit_prune_viz.pruning.recipe import AUTO, Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model

_LABELS = {"dit-pruning": "DiT-Pruning", "wanda": "Wanda", "magnitude": "Magnitude", "ria": "RIA", "obs": "OBS score"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NAMED = 3
"""Patterns or kinds that the words list."""


def label_of(name: str) -> str:
    """What people call a named recipe."""
    return _LABELS.get(name) or name


def title_of(recipe: Recipe) -> str:
    """The label of the named recipe that it is, or of the one that comes nearest with what differs from that."""
    pattern = n_of_m(recipe.granularity)
    plain = replace(recipe, granularity=AUTO) if pattern else recipe
    found = name_of(plain)
    if found is None:
        nearest = min(_bases(plain), key=lambda base: len(_differing(plain, base[1])))
        parts = [nearest[0], *(_WORDS[name](plain) for name in _differing(plain, nearest[1]))]
    else:
        parts = [label_of(found)]
    return ", ".join([*parts, recipe.granularity] if pattern else parts)


def limits_in_words(recipe: Recipe) -> list[str]:
    """A moved threshold, layers kept dense, and bounds, a text each."""
    parts = [] if recipe.threshold is None else [f"threshold {recipe.threshold:.4g}"]
    if recipe.ignore:
        parts.append(f"{_listed(recipe.ignore)} kept dense")
    parts += [_bounds(one) for one in recipe.bounds[:_NAMED]]
    if len(recipe.bounds) > _NAMED:
        parts.append(f"bounds for {_count(len(recipe.bounds) - _NAMED, 'more pattern')}")
    return parts


def _bases(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """(label, recipe) of what a recipe can be told as a change of: named ones with its score, or its score alone."""
    named = [(label_of(one.name), one.recipe) for one in NAMED_RECIPES.values()]
    own = [(label, base) for label, base in named if base.saliency == recipe.saliency]
    return own or [(recipe.method.title, Recipe(recipe.saliency))]


def _differing(recipe: Recipe, base: Recipe) -> list[str]:
    return [name for name in _WORDS if _value(recipe, name) != _value(base, name)]


def _value(recipe: Recipe, name: str) -> object:
    return recipe.resolved_granularity if name == "granularity" else getattr(recipe, name)


_GROUPS = {"layer": "whole layer", "row": "by row", "column": "by column", "cag": "CAG"}
_WORDS: dict[str, Callable[[Recipe], str]] = {
    "granularity": lambda own: _GROUPS.get(own.resolved_granularity, own.resolved_granularity),
    "allocation": lambda own: f"{find_method(Allocation, own.allocation).title.partition(':')[0]} per layer",
    "sensitivity": lambda own: "weighed by sensitivity" if own.sensitivity else "not weighed by sensitivity",
    "search": lambda own: " and ".join(search.title for search in own.searches) or "no mask search",
    "update": lambda own: own.updater.title if own.updater else "no update",
    "timestep": lambda own: (
        (f"{own.timestep} timesteps" if own.timestep in SCHEMES[1:] else "own timestep weights")
        if own.timestep != SCHEMES[0]
        else "all timesteps alike"
    ),
    "centred": lambda own: "centred inputs" if own.centred else "inputs not centred",
    "sequential": lambda own: "block by block" if own.sequential else "all blocks at once",
}
"""Field of a recipe → how its value is told where it differs from a named recipe's."""


def in_words(recipe: Recipe, model: Model) -> str:
    """What a recipe does to a model, such as "DiT-Pruning, 60 %, adaLN kept at 40 %, two clusters by hand".

    Args:
        recipe: any that fits the model.
        model: whose kinds of layers are named.
    """
    parts = [title_of(recipe), percent(recipe.sparsity, 4)]
    if n_of_m(recipe.granularity):
        parts = [title_of(replace(recipe, granularity=AUTO)), recipe.granularity]
    by_hand = _by_hand(recipe, model)
    if by_hand and (recipe.rebalance or any(one.adjusted for one in recipe.tuned)):
        by_hand.append("the others make up for it")
    return ", ".join([*parts, *limits_in_words(recipe), *by_hand])


def _by_hand(recipe: Recipe, model: Model) -> list[str]:
    """What was set layer by layer: clusters, whole kinds, single layers."""
    ruled = [one for one in recipe.tuned if one.clusters is not None and _own(one)]
    parts = []
    if ruled:
        among = f" in {_count(len(ruled), 'layer')}" if len(ruled) > 1 else ""
        parts.append(f"{_count(sum(map(_own, ruled)), 'cluster')} by hand{among}")
    # Clusters that only have names change nothing.
    plain = [one for one in recipe.tuned if one.clusters is None and not one.adjusted]
    if recipe.threshold is not None and len(recipe.tuned) == len(model.layers):
        plain = []  # all layers keep what they lost before the threshold moved
    kinds = {layer.name: layer.kind for layer in model.layers}
    every, single = Counter(kinds.values()), 0
    groups: dict[tuple[str, str], list[TunedLayer]] = {}
    for one in plain:
        groups.setdefault((kinds.get(one.name, ""), percent(one.sparsity, 4)), []).append(one)
    for (kind, share), group in groups.items():
        if len(group) == every[kind]:
            parts.append(f"{kind} set to {share}")
        else:
            single += len(group)
    if single:
        parts.append(f"{_count(single, 'layer')} by hand")
    return parts


def _own(one: TunedLayer) -> int:
    """How many clusters have a sparsity of their own."""
    if one.clusters is None:
        return 0
    earlier = one.clusters.beneath
    return sum(share is not None for share in one.clusters.sparsity) + (len(earlier.units) if earlier else 0)


def _bounds(one: Bounds) -> str:
    if one.least == one.greatest:
        return f"{one.pattern} kept at {percent(one.least, 4)}"
    if one.least == 0:
        return f"{one.pattern} at most {percent(one.greatest, 4)}"
    if one.greatest == 1:
        return f"{one.pattern} at least {percent(one.least, 4)}"
    return f"{one.pattern} at {percent(one.least, 4).removesuffix(' %')}–{percent(one.greatest, 4)}"


def _listed(patterns: Sequence[str]) -> str:
    if len(patterns) > _NAMED:
        return f"{', '.join(patterns[:_NAMED])} and {len(patterns) - _NAMED} more"
    *first, last = patterns
    return f"{', '.join(first)} and {last}" if first else last


def _count(number: int, what: str) -> str:
    return f"{_NUMBERS[number] if number < len(_NUMBERS) else f'{number:,}'} {what}{'' if number == 1 else 's'}"
