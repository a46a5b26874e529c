"""Saliencies against a naive float64 formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.saliency.base import layer_scores, needed_statistic
from dit_prune_viz.methods.saliency.find import METHODS, find_method
from dit_prune_viz.methods.saliency.magnitude import Magnitude
from dit_prune_viz.methods.saliency.obs import OBS
from dit_prune_viz.methods.saliency.ria import RIA
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.methods.saliency.wanda import Wanda


def layer(rows: int, columns: int, seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 0.1
    return weight.to(dtype), torch.rand(columns, generator=generator) * 30


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    m=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]),
    n=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_scores_are_the_power_product(rows, columns, seed, dtype, m, n):
    weight, norm = layer(rows, columns, seed, dtype)
    w, x = np.abs(weight.double().numpy()), norm.double().numpy()
    expected = {STW(m, n): w**m * x**n, STW(): w**2 * x, Wanda(): w * x, Magnitude(): w + 0 * x}
    before = weight.clone(), norm.clone()
    for saliency, table in expected.items():
        scores = saliency.score(weight, norm)
        assert scores.dtype == torch.float32
        assert scores.shape == weight.shape
        np.testing.assert_allclose(scores.double().numpy(), table, rtol=2e-6, atol=1e-30)
    assert torch.equal(weight, before[0])
    assert torch.equal(norm, before[1])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    a=st.sampled_from([0.0, 0.5, 1.0]),
    power=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_ria_and_obs_are_their_formulas(rows, columns, seed, dtype, a, power):
    weight, statistic = layer(rows, columns, seed, dtype)
    statistic += 0.01
    before = weight.clone(), statistic.clone()
    w, x = np.abs(weight.double().numpy()), statistic.double().numpy()
    ria = (w / w.sum(1, keepdims=True) + w / w.sum(0, keepdims=True)) * x**a
    for saliency, table in {RIA(a): ria, OBS(power): w**2 / x**power}.items():
        scores = saliency.score(weight, statistic)
        assert scores.dtype == torch.float32
        np.testing.assert_allclose(scores.double().numpy(), table, rtol=3e-6, atol=1e-30)
    assert torch.equal(weight, before[0])
    assert torch.equal(statistic, before[1])


def test_ria_of_channels_without_weights_is_zero():
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, -2.0]])
    assert RIA().score(weight, torch.ones(3)).tolist() == [[0, 0, 0], [0, 1.5, 1.5]]


def test_obs_ranks_by_the_inverse_hessian():
    norm, inverse = {"q": torch.ones(3)}, {"q": torch.tensor([1.0, 2.0, 4.0])}
    for method in ("magnitude", "wanda", "ria", "dit-pruning", "stw:1.5,1"):
        assert needed_statistic(find_method(method), norm.__getitem__, None)("q") is norm["q"]
    assert needed_statistic(OBS(), norm.__getitem__, inverse.__getitem__)("q") is inverse["q"]
    with pytest.raises(UserError, match="needs the Hessians"):
        needed_statistic(OBS(), norm.__getitem__, None)
    for bad in (0.0, -1.0):
        with pytest.raises(UserError, match="not above 0"):
            OBS().score(torch.ones(2, 3), torch.tensor([1.0, bad, 1.0]))
    with pytest.raises(UserError, match="NaN or infinite inverse Hessian"):
        layer_scores(OBS(), "q", torch.ones(2, 3), torch.tensor([1.0, float("nan"), 1.0]))


def test_magnitude_and_wanda_are_special_cases_bit_for_bit():
    weight, norm = layer(20, 30, 1, torch.bfloat16)
    assert torch.equal(STW(1, 0).score(weight, norm), Magnitude().score(weight, norm))
    assert torch.equal(STW(1, 1).score(weight, norm), Wanda().score(weight, norm))


def test_a_parameter_gives_scores_without_gradient():
    weight, norm = layer(3, 4, 0, torch.float32)
    assert not STW().score(torch.nn.Parameter(weight), norm).requires_grad


def test_methods_are_found_by_their_own_names():
    for name, saliency in METHODS.items():
        assert saliency.name == name
        assert find_method(name) is saliency
    assert find_method(STW(1.5, 1)).name == "STW m=1.5 n=1"
    for name, saliency in {"stw:1.5,1": STW(1.5, 1), "stw": STW(), "ria:0.7": RIA(0.7), "obs:1": OBS(1)}.items():
        assert find_method(name) == saliency
    for bad in ("sparsegpt", None, 3, "STW:1"):
        with pytest.raises(UserError, match="no pruning method"):
            find_method(bad)
    with pytest.raises(UserError, match="stand numbers"):
        find_method("stw:a")
    with pytest.raises(UserError, match="at most 2"):
        find_method("stw:1,2,3")
    for bad in ("stw:-1,1", "ria:nan", "obs:-1", "stw:0,0"):
        with pytest.raises(UserError, match=r"must be finite|exponents 0"):
            find_method(bad)


@pytest.mark.parametrize(("m", "n"), [(-1, 1), (float("nan"), 1), (2, float("inf")), (0, 0)])
def test_bad_exponents(m, n):
    with pytest.raises(UserError):
        STW(m, n)


def test_shapes_must_match():
    with pytest.raises(UserError, match="do not belong together"):
        STW().score(torch.ones(2, 3), torch.ones(2))


def test_values_that_are_not_finite_are_named():
    weight, norm = torch.ones(2, 3), torch.ones(3)
    for bad in (float("nan"), float("inf")):
        broken = weight.clone()
        broken[1, 2] = bad
        with pytest.raises(UserError, match=r"blocks\.0\.q has NaN or infinite weights"):
            layer_scores(STW(), "blocks.0.q", broken, norm)
        with pytest.raises(UserError, match=r"blocks\.0\.q has NaN or infinite activation norms"):
            layer_scores(STW(), "blocks.0.q", weight, norm * bad)
    with pytest.raises(UserError, match="smaller exponents"):
        layer_scores(STW(m=30), "blocks.0.q", weight * 1e3, norm)
    assert torch.equal(layer_scores(STW(), "blocks.0.q", weight, norm), weight)
