"""From a recipe to a plan: G_out of every layer, the groups it is ranked in, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.error_curve import ErrorCurve
from dit_prune_viz.masks.groups import check_granularity, check_n_m, n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.allocation.uniform import Uniform
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.granularity.cag import CAG
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.limits import Limits, Sized, find_limits, reachable
from dit_prune_viz.pruning.measures import Measures
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe import Recipe


def make_plan(
    recipe: Recipe,
    layers: Sequence[Sized],
    measures: Measures,
    *,
    sensitivity: Mapping[str, float] | None = None,
    curves: Mapping[str, ErrorCurve] | None = None,
    held: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> PruningPlan:
    """Plan all layers.

    The uniform allocation gives every layer the same sparsity, rounded down in each of its groups. Any other shares
    floor(all weights · sparsity) out, exact to one weight, from the layers' energies W²·E[x²] and from how much each
    layer's damage counts. So does the uniform one where layers stay dense or have bounds: all others get the same
    sparsity, so that the sum is as asked for. Layers set by hand come last and change nothing of the others.

    Args:
        recipe: how to prune.
        layers: in the model's order.
        measures: of these layers, by the scores of the recipe's saliency.
        sensitivity: layer → how much its damage counts; None counts layers as the allocation does by itself.
        curves: layer → measured error of the model's output over the layer's damage, where that is known.
        held: layer → how many weights it loses whatever the recipe says; the others make up for it.
        progress: called before every layer that is not measured yet; may raise `Cancelled`.

    Raises:
        UserError: no layers, an M that does not divide a layer's inputs, budgets that floors and ceilings forbid, a
            sensitivity that is missing, negative or NaN, patterns that mean no layer, layers set by hand that the model
            does not have, and whatever the scores refuse.
    """
    if not layers:
        raise UserError("The model has no layers to prune; load a diffusion transformer.")
    resolved, share = recipe.resolved_granularity, find_method(Allocation, recipe.allocation)
    names = [layer.name for layer in layers]
    counts_as = _checked_sensitivity(names, sensitivity)
    limits = find_limits(recipe.ignore, recipe.bounds, layers).holding(held or {})
    for layer in layers:
        if layer.name not in limits.dense:
            check_n_m(resolved, layer.shape[1], layer.name)
    steps = len(names) * (2 if share.exact else 1)
    g_out = measures.g_out(names, progress and (lambda done, _, what: progress(done, steps, what)))
    chosen, threshold = _groups(resolved, g_out, recipe.threshold)
    chosen |= {name: "layer" for name in limits.dense if n_of_m(chosen[name])}
    shares = {name: 0.0 if name in limits.dense else recipe.sparsity for name in names}
    plans = {name: LayerPlan(name, chosen[name], value, shares[name]) for name, value in g_out.items()}
    shapes = {layer.name: layer.shape for layer in layers}
    if share.exact or (limits and not n_of_m(resolved)):
        weights = {name: shape[0] * shape[1] for name, shape in shapes.items()}
        wanted = removed(sum(weights.values()), recipe.sparsity)
        total = reachable(limits, weights, wanted, recipe.sparsity, by_hand=bool(held))
        free = [name for name in names if name not in limits.dense]
        if share.exact:
            weighing = progress and (lambda done, _, what: progress(len(names) + done, steps, what))
            groups = {name: chosen[name] for name in free}
            found = measures.costs(groups, outlier_level=share.outlier_level, progress=weighing)
            by_size = sensitivity is None and share.by_size
            curves = curves or {}
            costs = [
                replace(
                    found[name],
                    weight=counts_as[name] * (found[name].weights if by_size else 1),
                    curve=curves.get(name),
                )
                for name in free
            ]
        else:
            share, costs = Uniform(), [_bare(name, weights[name]) for name in free]
        plans |= _shared_out(plans, [_limited(cost, limits) for cost in costs], share, total)
    if progress:
        progress(steps, steps, "Plan is ready")
    return PruningPlan(recipe, threshold, plans).with_tuned(recipe.tuned, shapes)


def check_layers(recipe: Recipe, layers: Sequence[Sized]) -> None:
    """Check all that a recipe says of single layers before anything is measured.

    Args:
        recipe: how to prune.
        layers: of the model.

    Raises:
        UserError: patterns that mean no layer, or layers set by hand that the model has not or has otherwise.
    """
    find_limits(recipe.ignore, recipe.bounds, layers)
    if recipe.tuned:
        resolved = recipe.resolved_granularity
        usual = resolved if n_of_m(resolved) else "layer"
        plans = {layer.name: LayerPlan(layer.name, usual, 0.0, recipe.sparsity) for layer in layers}
        PruningPlan(recipe, None, plans).with_tuned(recipe.tuned, {layer.name: layer.shape for layer in layers})


def _bare(name: str, weights: int) -> LayerCost:
    """A layer's cost for an allocation that looks at sizes alone."""
    none = np.zeros(0)
    return LayerCost(name, weights, none, none, none, none)


def _limited(cost: LayerCost, limits: Limits) -> LayerCost:
    """The cost with the layer's floor and ceiling."""
    low, high = limits.of(cost.name, cost.weights)
    return cost if (low, high) == (0, cost.weights) else replace(cost, floor=low, ceiling=high)


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
    plans: Mapping[str, LayerPlan], costs: Sequence[LayerCost], share: Allocation, total: int
) -> dict[str, LayerPlan]:
    """The plans of the layers that have costs with the counts that `share` gives them, `total` in all."""
    counts = share.counts(costs, total) if costs else {}
    for cost in costs:
        count = counts.get(cost.name)
        if not isinstance(count, Integral) or not 0 <= count <= cost.weights:
            raise UserError(
                f"The allocation {share.name} removes {brief(count)} of the {cost.weights:,} weights of layer "
                f"{cost.name}; give every layer a whole number of them."
            )
        most = cost.weights if cost.ceiling is None else cost.ceiling
        if not cost.floor <= count <= most:
            raise UserError(
                f"The allocation {share.name} removes {count:,} weights of layer {cost.name}, which should lose "
                f"{cost.floor:,} to {most:,}; choose another allocation, or leave the layer's bounds out."
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
