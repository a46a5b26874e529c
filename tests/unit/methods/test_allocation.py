"""Allocations against naive oracles: whole sorts, every split there is, and exact counts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.error_curve import ErrorCurve
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.allocation import cost as cost_module
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.cost import LayerCost, layer_cost
from dit_prune_viz.methods.allocation.damage_aware import DamageAware
from dit_prune_viz.methods.allocation.global_ranking import NORMALISATIONS, GlobalRanking
from dit_prune_viz.methods.allocation.owl import OWL
from dit_prune_viz.methods.allocation.tempered import Tempered
from dit_prune_viz.methods.allocation.uniform import Uniform
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.methods.saliency.wanda import Wanda

PAPER = STW()
BUILT_IN = methods_of(Allocation)
EVERY = [
    *(kind() for kind in BUILT_IN.values()),
    Tempered(0.0),
    Tempered(1.0),
    OWL(5, 0.3),
    *map(GlobalRanking, NORMALISATIONS),
]


def layer(shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.rand(shape[0], 1, generator=generator)
    return weight, torch.rand(shape[1], generator=generator) + 0.05


def costs_of(shapes, seed=0, granularity="layer", method=PAPER, **options) -> list[LayerCost]:
    made = []
    for i, shape in enumerate(shapes):
        weight, norm = layer(shape, seed + i)
        made.append(layer_cost(f"layer {i}", method.score(weight, norm), weight, norm**2, granularity, **options))
    return made


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    granularity=st.sampled_from(["layer", "row", "column"]),
    seed=st.integers(0, 2**31),
)
def test_the_curve_is_the_damage_of_the_masks(rows, columns, granularity, seed):
    weight, norm = layer((rows, columns), seed)
    scores = STW().score(weight, norm)
    cost = layer_cost("q", scores, weight, norm**2, granularity)
    assert cost.removed.tolist() == list(range(rows * columns + 1))
    for count in range(rows * columns + 1):
        mask = keep_mask(scores, sparsity=0, granularity=granularity, count=count)
        assert cost.damage(count) == pytest.approx(damage(weight, norm**2, mask), abs=1e-6)
    energy = (weight.double() ** 2 * norm.double() ** 2).flatten().sort().values
    np.testing.assert_allclose(cost.energies, (energy / energy.sum()).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(cost.scores, scores.flatten().sort().values.double().numpy())


def test_an_n_m_curve_takes_the_smallest_of_every_m_first():
    weight, norm = layer((3, 8), 1)
    scores = Wanda().score(weight, norm)
    cost = layer_cost("q", scores, weight, norm**2, "2:4")
    assert cost.damage(12) == pytest.approx(damage(weight, norm**2, keep_mask(scores, sparsity=0, granularity="2:4")))


@pytest.mark.parametrize("granularity", ["layer", "row", "column", "2:4"])
def test_a_large_layer_is_measured_on_a_sample(granularity, monkeypatch):
    weight, norm = layer((600, 512), 3)
    scores = STW().score(weight, norm)
    whole = layer_cost("q", scores, weight, norm**2, granularity)
    monkeypatch.setattr(cost_module, "_SAMPLE", 40_000)
    sample = layer_cost("q", scores, weight, norm**2, granularity)
    assert len(whole.removed) == len(sample.removed) == cost_module.KNOTS + 1
    assert (sample.weights, sample.removed[0], sample.removed[-1]) == (600 * 512, 0, 600 * 512)
    assert sample.outlier_share == whole.outlier_share
    for share in (0.1, 0.5, 0.7, 0.9):
        count = share * whole.weights
        if granularity != "2:4":
            mask = keep_mask(scores, sparsity=0, granularity=granularity, count=round(count))
            assert whole.damage(round(count)) == pytest.approx(damage(weight, norm**2, mask), rel=5e-3, abs=1e-5)
        assert sample.damage(count) == pytest.approx(whole.damage(count), rel=0.15, abs=1e-3)
    assert sample.damage(whole.weights) == pytest.approx(1)


def test_curves_of_nothing_and_of_scores_below_zero():
    cost = layer_cost("q", torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(3), "row")
    assert cost.damage(6) == 0
    weight, scores = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[-1.0, 3.0, -2.0]])
    cost = layer_cost("q", scores, weight, torch.ones(3), "layer")
    assert [cost.damage(i) * 21 for i in range(4)] == pytest.approx([0, 16, 17, 21])


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    share=st.floats(0, 1),
    allocation=st.sampled_from(EVERY),
    data=st.data(),
)
def test_every_allocation_is_exact_and_keeps_to_floors_and_ceilings(shapes, seed, share, allocation, data):
    costs = []
    for cost in costs_of(shapes, seed):
        floor = data.draw(st.integers(0, cost.weights))
        ceiling = data.draw(st.one_of(st.none(), st.integers(floor, cost.weights)))
        costs.append(replace(cost, floor=floor, ceiling=ceiling, weight=data.draw(st.sampled_from([0.0, 0.5, 1.0, 3]))))
    lows = sum(cost.floor for cost in costs)
    highs = sum(cost.weights if cost.ceiling is None else cost.ceiling for cost in costs)
    total = round(lows + share * (highs - lows))
    counts = allocation.counts(costs, total)
    assert list(counts) == [cost.name for cost in costs]
    assert sum(counts.values()) == total
    for cost in costs:
        assert cost.floor <= counts[cost.name] <= (cost.weights if cost.ceiling is None else cost.ceiling)
    assert counts == allocation.counts(costs, total)
    for impossible in (lows - 1, highs + 1):
        with pytest.raises(UserError, match="floors alone remove" if impossible < lows else "ceilings let"):
            allocation.counts(costs, impossible)


def test_uniform_and_tempered_without_temper_are_the_same():
    costs = costs_of([(4, 10), (6, 5), (30, 10), (1, 3)])
    counts = Uniform().counts(costs, 187)
    assert all(abs(counts[cost.name] - cost.weights * 187 / 373) < 1 for cost in costs)
    assert Tempered(0.0).counts(costs, 187) == counts


def test_a_floor_takes_from_the_others_alike():
    costs = costs_of([(10, 10), (10, 10), (20, 10)])
    costs[0] = replace(costs[0], floor=80)
    assert Uniform().counts(costs, 200) == {"layer 0": 80, "layer 1": 40, "layer 2": 80}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), normalise=st.sampled_from(NORMALISATIONS))
def test_global_ranking_is_one_sort_of_all_scores(seed, share, normalise):
    shapes = [(3, 5), (8, 4), (2, 2)]
    scores = [STW().score(*layer(shape, seed + i)).double().flatten() for i, shape in enumerate(shapes)]
    divisor = {"none": lambda s: 1, "mean": torch.mean, "sum": torch.sum, "root": lambda s: s.sum() / len(s) ** 0.5}
    everything = np.concatenate([(s / divisor[normalise](s)).numpy() for s in scores])
    owner = np.repeat(range(3), [len(s) for s in scores])
    total = round(share * len(everything))
    expected = np.bincount(owner[np.argsort(everything, kind="stable")[:total]], minlength=3)
    assert list(GlobalRanking(normalise).counts(costs_of(shapes, seed), total).values()) == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_tempered_is_between_uniform_and_the_energy_threshold(seed, share):
    shapes = [(3, 5), (8, 4), (2, 2)]
    layers = [layer(shape, seed + i) for i, shape in enumerate(shapes)]
    energies = [(weight.double() ** 2 * norm.double() ** 2).flatten() for weight, norm in layers]
    everything = np.concatenate([(e / e.sum() * len(e) ** 0.5).numpy() for e in energies])
    owner = np.repeat(range(3), [len(e) for e in energies])
    total = round(share * len(everything))
    threshold = np.bincount(owner[np.argsort(everything, kind="stable")[:total]], minlength=3)
    costs = costs_of(shapes, seed)
    assert list(Tempered(1.0).counts(costs, total).values()) == threshold.tolist()
    for lam in (0.3, 0.6):
        expected = (1 - lam) * total / len(everything) * np.array([15, 32, 4]) + lam * threshold
        found = np.array(list(Tempered(lam).counts(costs, total).values()))
        assert np.abs(found - expected).max() < 2  # both parts are rounded


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), total=st.integers(0, 26), floor=st.integers(0, 2), ceiling=st.integers(7, 12))
def test_no_other_split_has_less_damage(seed, total, floor, ceiling):
    # Ranked by energy over the layer, damage is convex, and the split must be the best of all.
    costs = [
        replace(cost, floor=floor, ceiling=min(cost.weights, ceiling), weight=weight)
        for cost, weight in zip(costs_of([(3, 4), (2, 4), (2, 3)], seed, method=STW(2, 2)), (1, 4, 0.5), strict=True)
    ]
    total = max(3 * floor, min(total, sum(cost.ceiling for cost in costs)))

    def damage_of(counts) -> float:
        return math.fsum(cost.weight * cost.damage(count) for cost, count in zip(costs, counts, strict=True))

    ranges = [range(cost.floor, cost.ceiling + 1) for cost in costs]
    best = min(damage_of(counts) for counts in itertools.product(*ranges) if sum(counts) == total)
    assert damage_of(DamageAware().counts(costs, total).values()) == pytest.approx(best, abs=1e-9)


def test_damage_aware_looks_past_a_bump():
    # Two dear weights stand before twenty that cost nothing: the corner behind the bump is the cheap place.
    lost = np.concatenate([[0, 0.1, 0.2], np.full(18, 0.2), np.linspace(0.25, 1, 20)])
    steps = np.arange(41)
    bump = LayerCost("bump", 40, steps, lost, steps[1:] / 40, steps[1:] / 40)
    plain = replace(bump, name="plain", lost=steps / 40)
    assert DamageAware().counts([bump, plain], 20) == {"bump": 20, "plain": 0}


def test_damage_aware_spares_what_counts_more():
    costs = costs_of([(20, 20)], seed=5, method=STW(2, 2))
    same = DamageAware().counts([costs[0], replace(costs[0], name="twin")], 400)
    assert abs(same["layer 0"] - same["twin"]) <= 1
    skewed = DamageAware().counts([costs[0], replace(costs[0], name="twin", weight=10.0)], 400)
    assert skewed["twin"] < 200 < skewed["layer 0"]
    bounded = DamageAware(0.4, 0.6).counts([costs[0], replace(costs[0], name="twin", weight=1e6)], 400)
    assert bounded == {"layer 0": 240, "twin": 160}


def test_owl_gives_dense_layers_to_outliers():
    shares = [0.0, 0.01, 0.04]
    costs = [replace(c, outlier_share=s) for c, s in zip(costs_of([(100, 10)] * 3), shares, strict=True)]
    counts = OWL().counts(costs, 1500)
    extra = np.array(shares) / 0.04 * 0.16
    np.testing.assert_allclose(list(counts.values()), 1000 * (0.5 - extra + extra.mean()), atol=1)
    assert OWL().counts([replace(cost, outlier_share=0.1) for cost in costs], 1500) == Uniform().counts(costs, 1500)
    weight, norm = layer((40, 30), 2)
    scores = STW().score(weight, norm)
    cost = layer_cost("q", scores, weight, norm**2, "layer", outlier_level=3.0)
    assert cost.outlier_share == float((scores.double() > 3 * scores.double().mean()).double().mean()) > 0
    with pytest.raises(UserError, match="another level"):
        OWL().counts([cost], 10)


def test_names_lead_back_to_the_allocation():
    assert list(BUILT_IN) == ["uniform", "owl", "tempered", "damage-aware", "global"]
    for name, kind in BUILT_IN.items():
        assert find_method(Allocation, name) == kind()
        assert find_method(Allocation, name).spec == name
    for allocation in [*EVERY, DamageAware(0.1, 0.9), OWL(7, 0.1)]:
        assert find_method(Allocation, allocation.spec) == allocation
    assert find_method(Allocation, "tempered:0.25") == Tempered(0.25)
    assert Tempered(0.25).spec == "tempered:0.25"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "no allocation 'best'"),
        (None, "no allocation None"),
        ("tempered:x", "is a number, not 'x'"),
        ("tempered:0.5,1", "at most 1 options"),
        ("tempered:1.5", "between 0 and 1"),
        ("tempered:nan", "between 0 and 1"),
        ("owl:0", "above 0"),
        ("owl:5,2", "between 0 and 1"),
        ("damage-aware:0.9,0.1", "must lie between"),
        ("global:max", "is one of none, mean, root, sum, not 'max'"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(UserError, match=message):
        find_method(Allocation, name)


def test_an_unknown_normalisation():
    with pytest.raises(UserError, match="no normalisation 'max'"):
        GlobalRanking("max")


def test_impossible_bounds():
    costs = costs_of([(3, 4), (2, 4)])
    with pytest.raises(UserError, match=r"Layer layer 1 should lose at least 5 and at most 2 of its 8"):
        Uniform().counts([costs[0], replace(costs[1], floor=5, ceiling=2)], 10)
    with pytest.raises(UserError, match="no layers"):
        Tempered().counts([], 0)
    with pytest.raises(UserError, match="ceilings let 10 weights go, fewer than the 12"):
        DamageAware(0, 0.5).counts(costs, 12)


def test_measured_errors_keep_damage_aware_from_emptying_a_layer_that_seems_cheap():
    """Every split of the budget is tried. By its slope alone the first layer would be emptied."""
    steps = np.arange(41)
    share = np.linspace(0, 1, 41) ** 2
    seems_cheap = ErrorCurve((0.0, 0.25, 0.81, 1.0), (0.0, 0.001, 0.02, 0.9))
    dear = ErrorCurve((0.0, 0.25, 0.81, 1.0), (0.0, 0.02, 0.1, 0.2))
    first, second = (
        LayerCost(name, 40, steps, share, steps[1:] / 40, steps[1:] / 40, weight=weight, curve=curve)
        for name, weight, curve in (("first", 0.004, seems_cheap), ("second", 0.08, dear))
    )
    by_hand = {
        count: float(seems_cheap.at(share[[count]])[0] + dear.at(share[[50 - count]])[0]) for count in range(10, 41)
    }
    best = min(by_hand, key=by_hand.get)
    assert best < 40
    assert DamageAware().counts([first, second], 50) == {"first": best, "second": 50 - best}
    plain = DamageAware().counts([replace(first, curve=None), replace(second, curve=None)], 50)
    assert plain["first"] == 40
