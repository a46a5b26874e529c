"""Plans whose budget is shared out by an allocation, and plans by column, N:M and the OBS saliency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import INVERSES, NORMS, SHAPES, WEIGHTS, Named, masks_of, mean_square, plan, scores_of

from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.damage import damage, damage_second_moment
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.pruning.allocate_clusters import allocate_clusters
from dit_prune_viz.pruning.report import summarize


@pytest.mark.parametrize("allocation", ["owl", "tempered:0.6", "damage-aware", "global", "tempered:0.3"])
@pytest.mark.parametrize("granularity", ["auto", "layer", "row", "column"])
def test_an_allocation_is_exact_over_the_model(allocation, granularity):
    made = plan(saliency="stw:1.5,1", granularity=granularity, sparsity=0.37, allocation=allocation)
    total = removed(sum(d_out * d_in for d_out, d_in in SHAPES.values()), 0.37)
    assert made.recipe.allocation in (
        allocation,
        allocation.partition(":")[0],
    )  # options at their defaults are left out
    assert sum(layer.count for layer in made.layers.values()) == total
    masks = masks_of(made)
    assert {name: mask.removed for name, mask in masks.items()} == {n: p.count for n, p in made.layers.items()}
    assert all(layer.sparsity == layer.count / WEIGHTS[name].numel() for name, layer in made.layers.items())
    plain = plan(saliency="stw:1.5,1", granularity=granularity, sparsity=0.37)
    assert {n: p.granularity for n, p in made.layers.items()} == {n: p.granularity for n, p in plain.layers.items()}
    assert len({layer.sparsity for layer in made.layers.values()}) > 1


def test_the_least_damage_is_predicted_for_damage_aware():
    def loss(**options) -> float:
        made = plan(saliency="stw:2,2", granularity="layer", sparsity=0.5, **options)
        return summarize(made, masks_of(made), WEIGHTS.__getitem__, mean_square).damage

    best = loss(allocation="damage-aware")
    for other in ("uniform", "owl", "tempered", "global:sum", "damage-aware:0.45,0.55"):
        assert loss(allocation=other) > best
    # The same thing, where the ranking is by energy: layers count by their weights, or all alike.
    assert loss(allocation="global") == best
    assert loss(allocation="global:sum") == loss(allocation="damage-aware", sensitivity=dict.fromkeys(SHAPES, 1.0))
    # So is the number of tokens that a layer's energies are averaged over.
    assert loss(allocation="damage-aware", squares=lambda name: NORMS[name] ** 2) == pytest.approx(best)


def test_a_sensitive_layer_is_spared():
    options = {"allocation": "damage-aware", "sparsity": 0.5}
    plain = plan(**options)
    spared = plan(**options, sensitivity={"adaLN": 1.0, "q": 50.0, "mlp in": 1.0, "mlp out": 1.0})
    assert spared.layer("q").count < plain.layer("q").count
    for bad in (
        {"q": 1.0},
        {**dict.fromkeys(SHAPES, 1.0), "q": -1.0},
        {**dict.fromkeys(SHAPES, 1.0), "q": float("nan")},
    ):
        with pytest.raises(UserError, match="sensitivity of layer"):
            plan(**options, sensitivity=bad)


def test_a_count_rules_until_a_sparsity_is_set():
    layer = LayerPlan("q", "row", 0.1, 0.5, count=33)
    scores = scores_of("stw")("q")
    assert int((~mask_of_scores(layer, scores)).sum()) == 33
    assert int((~mask_of_scores(layer.with_sparsity(0.2), scores)).sum()) == 20
    with pytest.raises(UserError, match="number of weights to remove"):
        mask_of_scores(replace(layer, count=101), scores)
    for bad in (-1, 0.5, "3", True):
        with pytest.raises(UserError, match="number of weights to remove"):
            LayerPlan("q", "row", 0.1, 0.5, count=bad)
    with pytest.raises(UserError, match="no sparsity to choose per cluster"):
        LayerPlan("q", "2:4", 0.1, 0.5, ClusterPlan("row", np.zeros(10, int), (0.5,)))


@pytest.mark.parametrize("saliency", ["magnitude", "wanda", "ria", "obs", "stw", "stw:1.5,1"])
def test_n_m_for_every_saliency(saliency):
    shapes = [name for name in SHAPES if SHAPES[name][1] % 4 == 0]
    made = plan(layers=[Named(name) for name in shapes], saliency=saliency, granularity="1:4")
    assert (made.recipe.granularity, made.recipe.sparsity, made.threshold) == ("1:4", 0.75, None)
    for name, mask in masks_of(made).items():
        assert bool((mask.unpack().view(-1, 4).sum(1) == 1).all())
        scores = scores_of(saliency)(name).view(-1, 4)
        assert torch.equal(scores[mask.unpack().view(-1, 4)], scores.amax(1))
    with pytest.raises(UserError, match="1:4 does not fit layer adaLN with 10 inputs"):
        plan(granularity="1:4")
    with pytest.raises(UserError, match="choose the allocation uniform"):
        plan(granularity="1:5", allocation="tempered")


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.73])
def test_wandas_masks_are_those_of_a_stable_sort_of_every_row(sparsity):
    for name, mask in masks_of(plan(saliency="wanda", sparsity=sparsity)).items():
        metric = WEIGHTS[name].abs() * NORMS[name]
        smallest = torch.sort(metric, dim=-1, stable=True).indices[:, : removed(metric.shape[1], sparsity)]
        assert torch.equal(~mask.unpack(), torch.zeros_like(metric, dtype=torch.bool).scatter(1, smallest, True))


def test_n_m_has_no_sparsity_per_cluster():
    made = plan(granularity="2:5").with_clusters("q", Clusters("row", "lasso", np.zeros(10, int), 1))
    assert masks_of(made)["q"].removed == 60
    with pytest.raises(UserError, match="no sparsity to choose per cluster"):
        made.with_cluster_sparsity("q", 0, 0.5)


def test_obs_takes_the_inverse_hessian():
    for name, mask in masks_of(plan(saliency="obs")).items():
        expected = keep_mask(WEIGHTS[name] ** 2 / INVERSES[name], sparsity=0.5)
        assert torch.equal(mask.unpack(), expected)


def test_clusters_of_columns_of_a_layer_ranked_by_columns():
    made = plan(granularity="column", sparsity=0.5)
    assert {layer.granularity for layer in made.layers.values()} == {"column"}
    made = made.with_clusters("q", Clusters("column", "lasso", np.arange(10) // 5, 2)).with_cluster_sparsity(
        "q", 0, 0.9
    )
    mask = masks_of(made)["q"].unpack()
    assert (~mask).sum(0).tolist() == [9] * 5 + [5] * 5


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_damage_on_second_moments_is_the_error_of_the_output(rows, columns, seed):
    random = np.random.default_rng(seed)
    weight, update = random.normal(size=(2, rows, columns))
    x, mask = random.normal(size=(20, columns)), random.random((rows, columns)) < 0.5
    tensors = [torch.from_numpy(array) for array in (weight, x.T @ x, mask)]
    full = np.sum((x @ weight.T) ** 2)
    assert damage_second_moment(*tensors) == pytest.approx(np.sum((x @ (weight * ~mask).T) ** 2) / full)
    error = np.sum((x @ (weight - update * mask).T) ** 2)
    assert damage_second_moment(*tensors, torch.from_numpy(update)) == pytest.approx(error / full)
    square = torch.from_numpy((x**2).mean(0))
    independent = damage_second_moment(tensors[0], torch.diag(square), tensors[2])
    assert independent == pytest.approx(damage(tensors[0], square, tensors[2]))


def test_damage_on_second_moments_that_do_not_fit():
    weight, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    assert damage_second_moment(torch.zeros(2, 3), torch.eye(3), ~mask) == 0.0
    for hessian, keep in ((torch.eye(2), mask), (torch.eye(3), mask.T)):
        with pytest.raises(UserError, match="do not belong to"):
            damage_second_moment(weight, hessian, keep)


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("allocation", ["uniform", "owl", "tempered", "damage-aware", "global"])
def test_a_layers_budget_is_shared_out_among_its_clusters(unit, allocation):
    weight, square = WEIGHTS["adaLN"], mean_square("adaLN")
    scores = STW(2, 2).score(weight, NORMS["adaLN"])
    units = {"row": 24, "column": 10, "weight": 240}[unit]
    labels = np.random.default_rng(1).choice([0, 1, 3], units).astype(np.int16)  # cluster 2 is empty
    layer = LayerPlan("adaLN", "layer", 0.1, 0.5, ClusterPlan(unit, labels, (None,) * 4))
    for count in (0, 77, 240):
        made = allocate_clusters(layer, scores, weight, square, count, allocation=allocation)
        assert int((~mask_of_scores(made, scores)).sum()) == count
    if allocation == "damage-aware":  # the ranking is by energy, so the best split is none at all
        mask = mask_of_scores(allocate_clusters(layer, scores, weight, square, 77), scores)
        assert torch.equal(mask, keep_mask(scores, sparsity=0, count=77))


def test_floors_and_ceilings_of_clusters():
    weight, square, scores = WEIGHTS["q"], mean_square("q"), STW().score(WEIGHTS["q"], NORMS["q"])
    layer = LayerPlan("q", "layer", 0.1, 0.5, ClusterPlan("row", np.arange(10) // 5, (None, None)))
    made = allocate_clusters(layer, scores, weight, square, 40, floors={0: 0.7}, ceilings={1: 0.1})
    assert made.clusters.sparsity == (0.7, 0.1)
    with pytest.raises(UserError, match="floors alone remove"):
        allocate_clusters(layer, scores, weight, square, 40, floors={0: 0.9})
    with pytest.raises(UserError, match="lower its floor or raise its ceiling"):
        allocate_clusters(layer, scores, weight, square, 40, floors={0: 0.9}, ceilings={0: 0.1})
    with pytest.raises(UserError, match="ceilings let"):
        allocate_clusters(layer, scores, weight, square, 40, ceilings={0: 0.1, 1: 0.2})
    with pytest.raises(UserError, match="Sparsity must"):
        allocate_clusters(layer, scores, weight, square, 40, floors={0: 1.5})
    with pytest.raises(UserError, match="number of weights to remove"):
        allocate_clusters(layer, scores, weight, square, 101)
    with pytest.raises(UserError, match="no clusters"):
        allocate_clusters(replace(layer, clusters=None), scores, weight, square, 40)
    with pytest.raises(UserError, match="another shape"):
        allocate_clusters(layer, scores, WEIGHTS["adaLN"], square, 40)
