"""A plan from a method, a granularity, one sparsity for the whole model, and how it is shared out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Protocol

from torch import Tensor

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.groups import check_n_m, n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.allocation.budget import Allocation
from dit_prune_viz.methods.allocation.cost import LayerCost, layer_cost
from dit_prune_viz.methods.allocation.damage_aware import DamageAware
from dit_prune_viz.methods.allocation.find import find_allocation
from dit_prune_viz.methods.allocation.owl import OWL
from dit_prune_viz.methods.allocation.uniform import Uniform
from dit_prune_viz.methods.granularity.choose import choose, resolve_mode
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.methods.saliency.base import Saliency, layer_scores, needed_statistic
from dit_prune_viz.methods.saliency.find import find_method
from dit_prune_viz.pruning.plan import PruningPlan


class Named(Protocol):
    """A layer, as far as a plan is concerned."""

    @property
    def name(self) -> str: ...


def make_plan(
    layers: Sequence[Named],
    weight: Callable[[str], Tensor],
    norm: Callable[[str], Tensor],
    *,
    method: str | Saliency = "dit-pruning",
    granularity: str = "auto",
    sparsity: float = 0.5,
    threshold: float | None = None,
    allocation: str | Allocation = "uniform",
    mean_square: Callable[[str], Tensor] | None = None,
    sensitivity: Mapping[str, float] | None = None,
    inverse_hessian: Callable[[str], Tensor] | None = None,
    progress: Progress | None = None,
) -> PruningPlan:
    """Plan all `layers`; G_out of every layer is measured with the method's own saliencies.

    `weight(name)` gives a layer's weights (d_out, d_in), `norm(name)` its input norms ‖X_j‖₂ (d_in,), and
    `inverse_hessian(name)` the diagonal of H⁻¹ (d_in,), which the OBS saliency ranks by. granularity is one of MODES,
    or N:M such as "2:4", which decides the sparsity by itself; `threshold` replaces CAG's own (arXiv 2607.00927).

    allocation: "uniform" gives every layer the same sparsity, rounded down in each of its groups. Any other (see
    `find_allocation`) shares floor(all weights · sparsity) out, exact to one weight, from the layers' energies
    W²·`mean_square`(name), E[x_j²] (d_in,), which is ‖X_j‖₂² up to a factor unless given, and from how much each
    layer's damage counts: `sensitivity` by layer; unless given, damage-aware counts layers by their weights, as the
    average that a report gives does, and the others count all alike.

    Weights are only read, one layer at a time. UserError for an unknown method, granularity or allocation, a sparsity
    outside 0–1, a negative threshold, NaN or infinite weights or norms, no layers, an M that does not divide a layer's
    inputs, N:M together with an allocation, budgets that floors and ceilings forbid, a sensitivity that is missing,
    negative or NaN, and OBS without `inverse_hessian`.
    """
    saliency, sparsity, share = find_method(method), check_sparsity(sparsity), find_allocation(allocation)
    resolved = resolve_mode(granularity, saliency.name)
    statistic = needed_statistic(saliency, norm, inverse_hessian)
    pattern, exactly = n_of_m(resolved), not isinstance(share, Uniform)
    if not layers:
        raise UserError("The model has no layers to prune; load a diffusion transformer.")
    if pattern and exactly:
        raise UserError(f"{resolved} gives every layer the same sparsity; choose the allocation uniform with it.")
    names = [layer.name for layer in layers]
    counts_as = _checked_sensitivity(names, sensitivity)
    by_size = sensitivity is None and isinstance(share, DamageAware)
    steps = len(names) * (2 if exactly else 1)
    g_out = {}
    for done, name in enumerate(names):
        if progress:
            progress(done, steps, f"Scoring {name}")
        scores = layer_scores(saliency, name, weight(name), statistic(name))
        check_n_m(resolved, scores.shape[1], name)
        g_out[name] = heterogeneity(scores)
    if resolved != "cag":
        threshold = None
    elif threshold is None:
        threshold = cag_threshold(g_out.values())
    chosen = choose(resolved, g_out, saliency.name, threshold)
    if pattern:
        sparsity = 1 - pattern[0] / pattern[1]
    plans = {name: LayerPlan(name, chosen[name], value, sparsity) for name, value in g_out.items()}
    if exactly:
        costs = []
        for done, name in enumerate(names, start=len(names)):
            if progress:
                progress(done, steps, f"Weighing {name}")
            scores = layer_scores(saliency, name, weight(name), statistic(name))
            square = norm(name).double().square() if mean_square is None else mean_square(name)
            level = {"outlier_level": share.m} if isinstance(share, OWL) else {}
            counts = counts_as[name] * (scores.numel() if by_size else 1)
            costs.append(layer_cost(name, scores, weight(name), square, chosen[name], sensitivity=counts, **level))
        plans = _shared_out(plans, costs, share, sparsity)
    if progress:
        progress(steps, steps, "Plan is ready")
    return PruningPlan(saliency, granularity, sparsity, threshold, plans, share.name)


def _shared_out(
    plans: Mapping[str, LayerPlan], costs: Sequence[LayerCost], share: Allocation, sparsity: float
) -> dict[str, LayerPlan]:
    """The same plans with the counts that `share` gives them, floor(all weights · sparsity) in all."""
    counts = share.counts(costs, removed(sum(cost.weights for cost in costs), sparsity))
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
