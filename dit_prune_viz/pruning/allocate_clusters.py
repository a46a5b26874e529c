"""A layer's budget shared out among its clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.units import count_units, weights_of
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.cost import layer_cost
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.pipelines.float64 import float64_capable


def allocate_clusters(
    layer_plan: LayerPlan,
    scores: Tensor,
    weight: Tensor,
    mean_square: Tensor,
    count: int,
    *,
    allocation: str | Allocation = "damage-aware",
    floors: Mapping[int, float] | None = None,
    ceilings: Mapping[int, float] | None = None,
) -> LayerPlan:
    """The same plan with a sparsity for each of its clusters, so that the layer loses `count` weights in all.

    Each cluster's damage counts by its share of the layer's energy, so that "damage-aware" finds the split with the
    least damage of the layer. A cluster of N weights gets the sparsity n/N that makes it lose its n; clusters of rows
    that are ranked row by row round that down in every row (columns likewise). An extension of arXiv 2607.00927.

    Args:
        layer_plan: of a layer with clusters.
        scores: (d_out, d_in), by which the weights are ranked.
        weight: (d_out, d_in), only read.
        mean_square: E[x_j²] of the inputs (d_in,).
        count: how many weights go.
        allocation: shares them out.
        floors: cluster id → least sparsity, 0–1.
        ceilings: cluster id → greatest sparsity, 0–1.

    Raises:
        UserError: a layer without clusters, N:M, clusters of another layer, a count that the layer does not have, an
            unknown allocation, and floors and ceilings that are no sparsities or that forbid the count.
    """
    clusters = layer_plan.clusters
    share = find_method(Allocation, allocation) if isinstance(allocation, str) else allocation
    if clusters is None or n_of_m(layer_plan.granularity):
        raise UserError(f"Layer {layer_plan.name} has no clusters with sparsities of their own; cluster it first.")
    if len(clusters.labels) != count_units(tuple(weight.shape), clusters.unit):
        raise UserError("The clusters were made for a layer of another shape; cluster again.")
    count = whole(count, "The number of weights to remove from a layer", 0, weight.numel())
    energy = (
        float64_capable(weight).double().square()
        * float64_capable(mean_square).to(float64_capable(weight).device).double()
    )
    total = float(energy.sum()) or 1.0
    costs = []
    for i in range(clusters.k):
        inside = weights_of(clusters.labels == i, tuple(weight.shape), clusters.unit).to(energy.device)
        size = int(inside.sum())
        if not size:
            continue
        low, high = (check_sparsity((given or {}).get(i, usual)) for given, usual in ((floors, 0), (ceilings, 1)))
        # What matters is the energy of each weight, so they are laid out as one row with inputs of E[x²] = 1.
        own = energy[inside]
        cost = layer_cost(
            f"cluster {i}",
            float64_capable(scores).to(energy.device)[inside][None],
            own.sqrt()[None],
            torch.ones_like(own),
            "layer",
            sensitivity=float(own.sum()) / total,
            floor=math.ceil(low * size - 1e-6),
            ceiling=math.floor(high * size + 1e-6),
            outlier_level=share.outlier_level,
        )
        costs.append((i, cost))
    counts = share.counts([cost for _, cost in costs], count)
    sparsities = [0.0] * clusters.k
    for i, cost in costs:
        sparsities[i] = counts[cost.name] / cost.weights
    return replace(layer_plan, clusters=replace(clusters, sparsity=tuple(sparsities)))
