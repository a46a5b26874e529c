"""Swaps of pruned for kept weights: counts, errors, and a naive float64 version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.methods.search.swap import Swap, swap_groups, swap_weights
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.methods.update.least_squares import LeastSquares
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.solve_layers import solve_layers


def _layer(seed: int, rows: int = 6, inputs: int = 12):
    """(weight, mask, hessian) with correlated inputs and half of every row pruned by magnitude."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, inputs, generator=generator)
    mixed = torch.randn(40, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator)
    mask = weight.abs() > weight.abs().median(1, keepdim=True).values
    return weight, mask, mixed.T @ mixed


def _errors(weight, mask, hessian, damping=0.0):
    """d·H·dᵀ of every row in float64."""
    matrix = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(len(hessian))
    lost = weight.double() * ~mask
    return ((lost @ matrix) * lost).sum(1)


def _naive(weight, mask, hessian, groups, damping, steps):
    """The same search, a row and a pair at a time, with every error computed from scratch in float64."""
    matrix = (hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(len(hessian))).numpy()
    weight, keep = weight.double().numpy(), mask.numpy().copy()
    for row, own in enumerate(keep):

        def error(pruned, row=row):
            lost = np.where(pruned, weight[row], 0)
            return lost @ matrix @ lost

        least = 1e-6 * float((weight[row] ** 2 * np.diag(matrix))[~own].sum())
        idle = 0
        for step in range(steps):
            now = error(~own)
            alone = {j: error(~own ^ (np.arange(len(own)) == j)) - now for j in range(len(own))}
            first = [j for j in alone if own[j] == (step % 2 == 1)]
            if not first or len(first) == len(own):
                break
            chosen = min(first, key=alone.get)
            pairs = {}
            for j in alone:
                if own[j] != own[chosen] and groups[row, j] == groups[row, chosen]:
                    swapped = ~own
                    swapped[[j, chosen]] = ~swapped[[j, chosen]]
                    pairs[j] = error(swapped) - now
            partner = min(pairs, key=pairs.get, default=None)
            if partner is not None and pairs[partner] < -least:
                own[[partner, chosen]] = ~own[[partner, chosen]]
                idle = 0
            else:
                idle += 1
            if idle == 2:
                break
    return torch.from_numpy(keep)


@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.1]), st.sampled_from([None, 4]))
def test_it_finds_what_a_naive_search_finds(seed, damping, m):
    weight, mask, hessian = _layer(seed)
    groups = None if m is None else torch.arange(12) // m
    table = torch.zeros(6, 12, dtype=torch.int64) if groups is None else groups.expand(6, 12)
    found = swap_weights(weight, mask, hessian, groups=groups, damping=damping, steps=30)
    expected = _naive(weight, mask, hessian, table.numpy(), damping, 30)
    # Rounding may decide between equal pairs, so the errors are compared, not the masks.
    assert torch.allclose(
        _errors(weight, found, hessian, damping), _errors(weight, expected, hessian, damping), rtol=1e-2
    )


@given(st.integers(0, 10_000), st.sampled_from(["row", "2:4", "clusters"]))
def test_counts_stay_and_no_row_gets_worse(seed, kind):
    weight, mask, hessian = _layer(seed)
    label = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (6, 12)))
    groups = {"row": torch.zeros(6, 12, dtype=torch.int64), "2:4": torch.arange(12).expand(6, 12) // 4}
    table = groups.get(kind, label)
    found = swap_weights(weight, mask, hessian, groups=None if kind == "row" else table)
    for group in table.unique():
        assert torch.equal((found & (table == group)).sum(1), (mask & (table == group)).sum(1))
    before, after = _errors(weight, mask, hessian, 0.1), _errors(weight, found, hessian, 0.1)
    assert bool((after <= before * (1 + 1e-4)).all())
    assert torch.equal(found, swap_weights(weight, mask, hessian, groups=None if kind == "row" else table))


def test_it_makes_up_for_errors_that_came_before():
    weight, mask, hessian = _layer(3)
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(60, 12, generator=generator)
    wanted = (inputs + 0.5 * torch.randn(60, 12, generator=generator)) @ weight.T  # outputs of the unaltered inputs
    hessian, target = inputs.T @ inputs, wanted.T @ inputs

    def error(keep):
        return float((wanted - inputs @ (weight * keep).T).square().sum())

    aware = swap_weights(weight, mask, hessian, damping=0, target=target)
    assert error(aware) < error(swap_weights(weight, mask, hessian, damping=0)) < error(mask)


def test_groups_follow_the_plan():
    shape = (2, 8)
    plan = LayerPlan("layer", "row", 1.0, 0.5)
    assert swap_groups(plan, shape) is None
    assert swap_groups(LayerPlan("layer", "2:4", 1.0, 0.5), shape).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(set(swap_groups(LayerPlan("layer", "column", 1.0, 0.5), shape).tolist())) == 8
    columns = ClusterPlan("column", np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int16), (0.5, 0.25))
    assert swap_groups(LayerPlan("layer", "row", 1.0, 0.5, columns), shape).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    rows = ClusterPlan("row", np.array([0, 1], dtype=np.int16), (0.5, 0.25))
    assert swap_groups(LayerPlan("layer", "row", 1.0, 0.5, rows), shape) is None
    both = ClusterPlan("weight", (np.arange(16) % 2).astype(np.int16), (0.5, None), columns)
    assert len(swap_groups(LayerPlan("layer", "row", 1.0, 0.5, both), shape).unique()) == 4


def test_bad_input():
    weight, mask, hessian = _layer(0)
    with pytest.raises(UserError, match="Groups of shape"):
        swap_weights(weight, mask, hessian, groups=torch.zeros(5, dtype=torch.int64))
    with pytest.raises(UserError, match="damping"):
        swap_weights(weight, mask, hessian, damping=-1)


def test_a_layer_whose_inputs_were_all_zero_keeps_its_mask():
    weight, mask, hessian = _layer(0)
    found = swap_weights(weight, mask, hessian * 0)
    assert torch.equal(found, mask)
    assert found is not mask


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("update", [None, Mean(), LeastSquares()], ids=["masks", "mean", "least-squares"])
def test_a_model_keeps_its_counts_and_its_dense_weights(flux, update, sequential):
    statistics = Statistics(flux, calibrate(flux, samples=8))
    ranked = rank(Recipe("wanda"), statistics)
    masks = {name: layer.mask for name, layer in ranked.layers.items()}
    dense = {name: flux.weight(name).clone() for name in masks}
    solved = solve_layers(
        statistics, ranked.plan.layers, masks, searches=[Swap()], update=update, sequential=sequential
    )
    assert list(solved.layers) == list(masks)
    assert all(0 < left <= 1.0001 for left in solved.left.values())
    for name, layer in solved.layers.items():
        assert torch.equal(layer.mask.unpack().sum(1), masks[name].unpack().sum(1))
        assert torch.equal(flux.weight(name), dense[name])
        if not isinstance(update, LeastSquares):
            assert torch.equal(layer.dense(dense[name]), dense[name] * layer.mask.unpack())
        biased = flux.transformer.get_submodule(name).bias is not None
        assert (layer.bias is not None) == (update is not None and biased)
    assert any(not torch.equal(layer.mask.bits, masks[name].bits) for name, layer in solved.layers.items())
