"""From a recipe to a plan: G_out of every layer, the groups it is ranked in, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Protocol

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.groups import check_granularity, check_n_m, n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.granularity.cag import CAG
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.measures import Measures
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe import Recipe


class Named(Protocol):
    """A layer, as far as a plan is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...


def make_plan(
    recipe: Recipe,
    layers: Sequence[Named],
    measures: Measures,
    *,
    sensitivity: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> PruningPlan:
    """Plan all layers.

    The uniform allocation gives every layer the same sparsity, rounded down in each of its groups. Any other shares
    floor(all weights · sparsity) out, exact to one weight, from the layers' energies W²·E[x²] and from how much each
    layer's damage counts.

    Args:
        recipe: how to prune.
        layers: in the model's order.
        measures: of these layers, by the scores of the recipe's saliency.
        sensitivity: layer → how much its damage counts; None counts layers as the allocation does by itself.
        progress: called before every layer that is not measured yet; may raise `Cancelled`.

    Raises:
        UserError: no layers, an M that does not divide a layer's inputs, budgets that floors and ceilings forbid, a
            sensitivity that is missing, negative or NaN, and whatever the scores refuse.
    """
    if not layers:
        raise UserError("The model has no layers to prune; load a diffusion transformer.")
    resolved, share = recipe.resolved_granularity, find_method(Allocation, recipe.allocation)
    names = [layer.name for layer in layers]
    counts_as = _checked_sensitivity(names, sensitivity)
    for layer in layers:
        check_n_m(resolved, layer.shape[1], layer.name)
    steps = len(names) * (2 if share.exact else 1)
    g_out = measures.g_out(names, progress and (lambda done, _, what: progress(done, steps, what)))
    chosen, threshold = _groups(resolved, g_out, recipe.threshold)
    plans = {name: LayerPlan(name, chosen[name], value, recipe.sparsity) for name, value in g_out.items()}
    if share.exact:
        weighing = progress and (lambda done, _, what: progress(len(names) + done, steps, what))
        groups = {name: chosen[name] for name in names}
        found = measures.costs(groups, outlier_level=share.outlier_level, progress=weighing)
        by_size = sensitivity is None and share.by_size
        costs = [
            replace(found[name], weight=counts_as[name] * (found[name].weights if by_size else 1)) for name in names
        ]
        plans = _shared_out(plans, costs, share, recipe.sparsity)
    if progress:
        progress(steps, steps, "Plan is ready")
    return PruningPlan(recipe, threshold, plans)


def _groups(
    granularity: str, g_out: Mapping[str, float], threshold: float | None
) -> tuple[dict[str, str], float | None]:
    """The groups of every layer, and CAG's threshold where CAG chose them."""
    if n_of_m(granularity):
        return dict.fromkeys(g_out, granularity), None
    method = find_method(Granularity, granularity)
    if isinstance(method, CAG):
        threshold = cag_threshold(g_out.values()) if threshold is None else threshold
        return method.choose(g_out, threshold), threshold
    chosen = method.choose(g_out)
    for name in g_out:
        if name not in chosen:
            raise UserError(f"The granularity {method.name} chooses nothing for layer {name}; name every layer.")
        check_granularity(chosen[name])
    return chosen, None


def _shared_out(
    plans: Mapping[str, LayerPlan], costs: Sequence[LayerCost], share: Allocation, sparsity: float
) -> dict[str, LayerPlan]:
    """The same plans with the counts that `share` gives them, floor(all weights · sparsity) in all."""
    total = removed(sum(cost.weights for cost in costs), sparsity)
    counts = share.counts(costs, total)
    for cost in costs:
        count = counts.get(cost.name)
        if not isinstance(count, Integral) or not 0 <= count <= cost.weights:
            raise UserError(
                f"The allocation {share.name} removes {brief(count)} of the {cost.weights:,} weights of layer "
                f"{cost.name}; give every layer a whole number of them."
            )
    given = sum(counts[cost.name] for cost in costs)
    if given != total:
        raise UserError(f"The allocation {share.name} removes {given:,} weights, but {total:,} were asked for.")
    return {
        cost.name: replace(plans[cost.name], sparsity=counts[cost.name] / cost.weights, count=counts[cost.name])
        for cost in costs
    }


def _checked_sensitivity(names: Sequence[str], sensitivity: Mapping[str, float] | None) -> Mapping[str, float]:
    if sensitivity is None:
        return dict.fromkeys(names, 1.0)
    for name in names:
        value = sensitivity.get(name)
        good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        if not good:
            raise UserError(f"The sensitivity of layer {name} is {brief(value)}; measure it, or give a number above 0.")
    return {name: float(sensitivity[name]) for name in names}
