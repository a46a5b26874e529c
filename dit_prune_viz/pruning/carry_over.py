"""A recipe that was made for one model on another one: what fits is kept, and what does not is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dit_prune_viz.checks import unmarked
from dit_prune_viz.errors import UserError
from dit_prune_viz.formatting import percent
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.pipelines.layer_patterns import layers_of
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.limits import Bounds, find_limits, reachable
from dit_prune_viz.pruning.recipe import AUTO, Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer

_NAMED = 3
"""Layers that a sentence lists."""


@dataclass(frozen=True)
class Carried:
    """A recipe for a model, and a sentence for everything that did not come along or is not as it was."""

    recipe: Recipe
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """A layer set by hand in the model that it was set in.

    kind: of the layer. shape: (d_out, d_in). achieved: the share of its weights that went, 0–1.
    """

    kind: str
    shape: tuple[int, int]
    achieved: float


def carry(
    recipe: Recipe,
    layers: Sequence[Layer],
    origins: Mapping[str, Origin] | None = None,
    *,
    keep_threshold: bool = False,
) -> Carried:
    """As much of a recipe as means something for a model's layers.

    Layers set by hand are kept where the model has one of the same name and shape. Of the others the mean sparsity of
    each kind goes to the model's layers of that kind.

    Args:
        recipe: made for another model.
        layers: of the model.
        origins: where the layers set by hand come from, as far as that is known.
        keep_threshold: whether a G_out threshold means something for the model.
    """
    dropped: list[str] = []
    ignore = tuple(_known(recipe.ignore, layers, dropped, "it stays dense"))
    bounds = tuple(one for one in recipe.bounds if [*_known([one.pattern], layers, dropped, "its bounds hold")])
    problem = _problem(recipe, ignore, bounds, layers)
    if problem:
        dropped.append(f"Its dense layers and bounds are left out, because here they cannot hold together: {problem}")
        ignore, bounds = (), ()
    changes: dict[str, object] = {"ignore": ignore, "bounds": bounds, "tuned": ()}
    if recipe.threshold is not None and not keep_threshold:
        changes["threshold"] = None
        dropped.append(f"The G_out threshold {recipe.threshold:.4g} was set for other layers; the model's own is used.")
    pattern = n_of_m(recipe.granularity)
    dense = {name for one in ignore for name in layers_of(one, layers)}
    if pattern and any(layer.shape[1] % pattern[1] for layer in layers if layer.name not in dense):
        changes["granularity"] = AUTO
        dropped.append(f"{recipe.granularity} does not divide the inputs of all layers; weights are ranked freely.")
    kept = replace(recipe, **changes)
    return Carried(replace(kept, tuned=_tuned(recipe.tuned, kept, layers, origins or {}, dropped)), tuple(dropped))


def _problem(recipe: Recipe, ignore: Sequence[str], bounds: Sequence[Bounds], layers: Sequence[Layer]) -> str:
    """Why limits and sparsity do not go together in a model; "" where they do."""
    try:
        limits = find_limits(ignore, bounds, layers)
        if limits and not n_of_m(recipe.granularity):
            weights = {layer.name: layer.weights for layer in layers}
            reachable(limits, weights, removed(sum(weights.values()), recipe.sparsity), recipe.sparsity)
    except UserError as error:
        return str(error)
    return ""


def _known(patterns: Iterable[str], layers: Sequence[Layer], dropped: list[str], what: str) -> Iterable[str]:
    for pattern in patterns:
        try:
            layers_of(pattern, layers)
        except UserError:
            dropped.append(f"{pattern} means no layer of this model, so that nothing says {what}.")
        else:
            yield pattern


def _tuned(
    tuned: Iterable[TunedLayer],
    recipe: Recipe,
    layers: Sequence[Layer],
    origins: Mapping[str, Origin],
    dropped: list[str],
) -> tuple[TunedLayer, ...]:
    here = {layer.name: layer for layer in layers}
    by_name: dict[str, TunedLayer] = {}
    by_kind: dict[str, list[Origin]] = {}
    lost: list[str] = []
    for one in tuned:
        layer, origin = here.get(one.name), origins.get(one.name)
        if layer is not None and (origin is None or origin.shape == layer.shape) and _fits(one, layer):
            by_name[one.name] = one
        elif origin is not None and any(layer.kind == origin.kind for layer in layers):
            by_kind.setdefault(origin.kind, []).append(origin)
        else:
            lost.append(one.name)
    found = dict(by_name)
    if any(one.clusters for one in by_name.values()):
        dropped.append("Clusters are kept by the numbers of their units, though they were found in other weights.")
    for kind, group in by_kind.items():
        if n_of_m(recipe.resolved_granularity):
            dropped.append(f"{recipe.resolved_granularity} leaves {kind} no sparsity of its own, so it was left out.")
            continue
        weights = [origin.shape[0] * origin.shape[1] for origin in group]
        share = sum(origin.achieved * size for origin, size in zip(group, weights, strict=True)) / sum(weights)
        own = [layer.name for layer in layers if layer.kind == kind and layer.name not in by_name]
        found |= {name: TunedLayer(name, share) for name in own}
        dropped.append(
            f"{_count(len(group), 'layer')} of kind {kind} had {percent(share)} on average, which "
            f"{_count(len(own), 'layer')} of that kind get here; names, groups and clusters were left out."
        )
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        dropped.append(
            f"Set by hand but not in this model, so left out: {', '.join(map(unmarked, lost[:_NAMED]))}{more}."
        )
    return tuple(found[layer.name] for layer in layers if layer.name in found)


def _fits(one: TunedLayer, layer: Layer) -> bool:
    try:
        one.plan(LayerPlan(layer.name, "layer", 0.0, 0.0), layer.shape)
    except UserError:
        return False
    return True


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
