"""Saliencies against a naive float64 formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.methods.saliency.base import Saliency, layer_scores
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
        scores = layer_scores(saliency, "q", weight, {"norm": norm})
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
)
def test_ria_and_obs_are_their_formulas(rows, columns, seed, dtype, a):
    weight, statistic = layer(rows, columns, seed, dtype)
    statistic += 0.01
    before = weight.clone(), statistic.clone()
    w, x = np.abs(weight.double().numpy()), statistic.double().numpy()
    ria = (w / w.sum(1, keepdims=True) + w / w.sum(0, keepdims=True)) * x**a
    for saliency, table in {RIA(a): ria, OBS(): w**2 / x}.items():
        scores = saliency.score(weight, statistic)
        assert scores.dtype == torch.float32
        np.testing.assert_allclose(scores.double().numpy(), table, rtol=3e-6, atol=1e-30)
    assert torch.equal(weight, before[0])
    assert torch.equal(statistic, before[1])


def test_ria_of_channels_without_weights_is_zero():
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, -2.0]])
    assert RIA().score(weight, torch.ones(3)).tolist() == [[0, 0, 0], [0, 1.5, 1.5]]


def test_obs_ranks_by_the_inverse_hessian():
    needs = {name: kind.needs for name, kind in methods_of(Saliency).items()}
    assert needs == {
        "magnitude": (),
        "none": (),
        "obs": ("inverse_hessian",),
        "ria": ("norm",),
        "stw": ("norm",),
        "wanda": ("norm",),
    }
    weight, inverse = torch.ones(1, 3), torch.tensor([1.0, 2.0, 4.0])
    known = {"norm": torch.tensor([9.0, 9.0, 9.0]), "inverse_hessian": inverse}
    assert layer_scores(OBS(), "q", weight, known).tolist() == [[1.0, 0.5, 0.25]]
    for bad in (0.0, -1.0):
        with pytest.raises(UserError, match="not above 0"):
            OBS().score(torch.ones(2, 3), torch.tensor([1.0, bad, 1.0]))
    with pytest.raises(UserError, match="NaN or infinite inverse Hessian"):
        layer_scores(OBS(), "q", torch.ones(2, 3), {"inverse_hessian": torch.tensor([1.0, float("nan"), 1.0])})


def test_magnitude_and_wanda_are_special_cases_bit_for_bit():
    weight, norm = layer(20, 30, 1, torch.bfloat16)
    assert torch.equal(STW(1, 0).score(weight, norm), Magnitude().score(weight))
    assert torch.equal(STW(1, 1).score(weight, norm), Wanda().score(weight, norm))


def test_a_parameter_gives_scores_without_gradient():
    weight, norm = layer(3, 4, 0, torch.float32)
    assert not STW().score(torch.nn.Parameter(weight), norm).requires_grad


def test_methods_are_found_by_their_own_names():
    for name, kind in methods_of(Saliency).items():
        assert kind.name == name
        assert find_method(Saliency, name) == kind()
    assert STW(1.5, 1).title == "STW, m = 1.5"
    for spec, saliency in {"stw:1.5,1": STW(1.5, 1), "stw": STW(), "ria:0.7": RIA(0.7), "obs": OBS()}.items():
        assert find_method(Saliency, spec) == saliency
        assert find_method(Saliency, spec).spec == spec
    for bad in ("sparsegpt", None, 3, "STW:1", ""):
        with pytest.raises(UserError, match="no saliency"):
            find_method(Saliency, bad)
    with pytest.raises(UserError, match="is a number, not 'a'"):
        find_method(Saliency, "stw:a")
    with pytest.raises(UserError, match="at most 2"):
        find_method(Saliency, "stw:1,2,3")
    with pytest.raises(UserError, match="no options"):
        find_method(Saliency, "obs:2")
    for bad in ("stw:-1,1", "ria:nan", "stw:0,0"):
        with pytest.raises(UserError, match=r"must be a finite number|exponents 0"):
            find_method(Saliency, bad)


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
            layer_scores(STW(), "blocks.0.q", broken, {"norm": norm})
        with pytest.raises(UserError, match=r"blocks\.0\.q has a NaN or infinite norm"):
            layer_scores(STW(), "blocks.0.q", weight, {"norm": norm * bad})
    with pytest.raises(UserError, match="smaller exponents"):
        layer_scores(STW(m=30), "blocks.0.q", weight * 1e3, {"norm": norm})
    assert torch.equal(layer_scores(STW(), "blocks.0.q", weight, {"norm": norm}), weight)
