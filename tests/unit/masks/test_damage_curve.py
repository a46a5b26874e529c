"""Damage curves against the damage of the masks themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.damage_curve import damage_curve
from dit_prune_viz.masks.select import keep_mask

SHAPE = (2048, 1536)
"""Three pieces, so that they are put together."""


def layer(uneven: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and mean squares; where uneven is above 0 a few rows hold most of the energy."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.exp(uneven * torch.randn(SHAPE[0], 1, generator=generator))
    weight = torch.randn(SHAPE, generator=generator) * rows * 0.02
    return weight.to(dtype), torch.exp(1.5 * torch.randn(SHAPE[1], generator=generator)) * 1e-3


@pytest.mark.parametrize("granularity", ["layer", "row", "column", "2:4"])
@pytest.mark.parametrize(("uneven", "dtype"), [(0.0, torch.float32), (1.5, torch.bfloat16)])
@pytest.mark.parametrize("by", ["stw", "magnitude", "signed"])
def test_a_curve_is_the_damage_of_every_mask(granularity, uneven, dtype, by):
    weight, square = layer(uneven, dtype)
    size = weight.float().abs()
    scores = {"stw": size**2 * square.sqrt(), "magnitude": size, "signed": weight.float()}[by]
    before = [table.clone() for table in (scores, weight, square)]
    curve = damage_curve(scores, weight, square, granularity)
    assert all(map(torch.equal, (scores, weight, square), before))  # they are only read
    assert (curve.removed[0], curve.removed[-1], curve.lost[0]) == (0, weight.numel(), 0)
    assert (np.diff(curve.removed) > 0).all()
    assert (np.diff(curve.lost) >= 0).all()
    assert curve.damage(weight.numel()) == pytest.approx(1)
    for sparsity in (0.05, 0.5, 0.9):
        mask = keep_mask(scores, sparsity=sparsity, granularity=granularity)
        removed = mask.numel() - int(mask.sum())
        assert curve.damage(removed) == pytest.approx(damage(weight, square, mask), rel=0.01)
    if granularity != "2:4":
        mask = keep_mask(scores, sparsity=0, granularity=granularity, count=1_234_567)
        assert curve.damage(1_234_567) == pytest.approx(damage(weight, square, mask), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_every_row_loses_its_smallest(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = 2.0 ** torch.randperm(rows * columns, generator=generator).view(rows, columns)  # no two scores are near
    curve = damage_curve(weight, weight, torch.ones(columns), "row")
    energy = (weight.double() ** 2).sort(dim=1).values.sum(0).cumsum(0).numpy()
    assert curve.removed.tolist() == [rows * k for k in range(columns + 1)]
    np.testing.assert_allclose(curve.lost, np.concatenate([[0], energy]) / energy[-1], rtol=1e-6)


def test_of_equal_scores_the_cheap_ones_do_not_go_first():
    """keep_mask takes them as they come, and that is what half of them cost on average: half."""
    generator = torch.Generator().manual_seed(1)
    weight, square = torch.randn(512, 512, generator=generator), torch.ones(512)
    for granularity in ("layer", "row", "column"):
        curve = damage_curve(torch.ones(512, 512), weight, square, granularity)
        assert curve.damage(512 * 256) == pytest.approx(0.5, rel=0.01)


def test_a_layer_without_energy_loses_none():
    for granularity in ("layer", "row", "column", "1:2"):
        zeros = torch.zeros(4, 6)
        assert damage_curve(zeros, zeros, torch.ones(6), granularity).damage(12) == 0
        assert damage_curve(torch.ones(4, 6), torch.ones(4, 6), torch.zeros(6), granularity).damage(12) == 0
