"""Exact counts, columns and N:M as groups, and clusters selected anew, against naive oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks import smallest as order
from dit_prune_viz.masks import smallest_cpu as order_cpu
from dit_prune_viz.masks import update_cluster as cluster_module
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups, n_m_mask
from dit_prune_viz.masks.update_cluster import update_cluster

EXAMPLES = settings(max_examples=40, deadline=None)
SPARSITIES = st.one_of(st.integers(0, 20).map(lambda twentieths: twentieths / 20), st.floats(0, 1))


@st.composite
def scored(draw) -> torch.Tensor:
    """Scores (d_out, d_in) float32, most of them with many ties."""
    rows, columns = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 3, 5, 8, 16]))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    return torch.from_numpy(random.integers(0, draw(st.sampled_from([1, 3, 10, 10**6])), (rows, columns))).float()


@EXAMPLES
@given(data=st.data(), scores=scored(), granularity=st.sampled_from(["layer", "row", "column"]))
def test_a_count_is_met_exactly(data, scores, granularity):
    count = data.draw(st.integers(0, scores.numel()))
    groups = {"layer": scores[None].flatten(1), "row": scores, "column": scores.T}[granularity].double().numpy()
    order = [sorted(range(groups.shape[1]), key=lambda j, row=row: (row[j], j)) for row in groups]
    # The smallest of every group, then the second smallest of every group, and so on.
    turns = sorted((rank, groups[i, j], i, j) for i, row in enumerate(order) for rank, j in enumerate(row))
    keep = np.ones(groups.shape, dtype=bool)
    for _, _, i, j in turns[:count]:
        keep[i, j] = False
    keep = keep.T if granularity == "column" else keep.reshape(scores.shape)
    mask = keep_mask(scores, sparsity=0.5, granularity=granularity, count=count)
    assert np.array_equal(mask.numpy(), keep)


def test_a_count_that_cannot_be():
    scores = torch.rand(3, 8)
    for bad in (-1, 25, 2.5, "12", float("nan")):
        with pytest.raises(UserError, match="number of weights to remove"):
            keep_mask(scores, sparsity=0.5, count=bad)
    assert torch.equal(keep_mask(scores, sparsity=0, granularity="2:4", count=12), n_m_mask(scores, 2, 4))
    with pytest.raises(UserError, match="2:4 removes a fixed share"):
        keep_mask(scores, sparsity=0.5, granularity="2:4", count=11)


def test_n_m_as_a_granularity():
    scores = torch.rand(5, 16)
    for n, m in ((2, 4), (4, 8), (1, 2), (3, 16)):
        assert torch.equal(keep_mask(scores, sparsity=0.9, granularity=f"{n}:{m}"), n_m_mask(scores, n, m))
    with pytest.raises(UserError, match="m must divide"):
        keep_mask(scores, sparsity=0.5, granularity="2:3")
    with pytest.raises(UserError, match="no sparsity to choose per cluster"):
        keep_mask_groups(scores, np.zeros(5, int), [0.5], "2:4", "row")
    base = torch.rand(5, 16) < 0.5
    assert torch.equal(keep_mask_groups(scores, np.zeros(5, int), [None], "2:4", "row", base), base)


@EXAMPLES
@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@given(data=st.data(), scores=scored())
def test_column_clusters_are_row_clusters_turned(unit, data, scores):
    units = {"row": len(scores), "column": scores.shape[1], "weight": scores.numel()}[unit]
    random = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    labels = random.integers(0, 3, units)
    sparsities = [data.draw(SPARSITIES), None, data.draw(SPARSITIES)]
    base = torch.from_numpy(random.random(scores.shape) < 0.5)
    turned = labels.reshape(scores.shape).T.ravel() if unit == "weight" else labels
    other = {"row": "column", "column": "row", "weight": "weight"}[unit]
    expected = keep_mask_groups(scores.T, turned, sparsities, "row", other, base.T).T
    assert torch.equal(keep_mask_groups(scores, labels, sparsities, "column", unit, base), expected)


@EXAMPLES
@pytest.mark.parametrize("few", [0, 1 << 18])
@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("granularity", ["layer", "row", "column"])
@given(data=st.data(), scores=scored())
def test_one_cluster_is_selected_anew(few, unit, granularity, data, scores):
    units = {"row": len(scores), "column": scores.shape[1], "weight": scores.numel()}[unit]
    random = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    labels, chosen = random.integers(0, 3, units).astype(np.int16), data.draw(st.integers(0, 2))
    sparsities = [None, None, None]
    sparsities[chosen] = data.draw(SPARSITIES)
    base = torch.from_numpy(random.random(scores.shape) < 0.5)
    expected = keep_mask_groups(scores, labels, sparsities, granularity, unit, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_module, "_FEW", few)
        packed = update_cluster(pack(base), scores, labels, chosen, sparsities[chosen], granularity, unit)
    assert torch.equal(packed.bits, pack(expected).bits)
    assert packed.shape == tuple(scores.shape)


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("levels", [7, 2**23])
def test_a_cluster_of_a_larger_layer(unit, levels, monkeypatch):
    monkeypatch.setattr(cluster_module, "_FEW", 1000)
    monkeypatch.setattr(cluster_module, "_CHUNK", 1 << 15)
    random = np.random.default_rng(4)
    scores = torch.from_numpy(random.integers(0, levels, (300, 704))).float()
    labels = random.integers(0, 3, {"row": 300, "column": 704, "weight": 300 * 704}[unit]).astype(np.int16)
    base = torch.from_numpy(random.random(scores.shape) < 0.5)
    for sparsity in (0.0, 0.003, 0.5, 0.97, 1.0):
        expected = keep_mask_groups(scores, labels, [None, sparsity, None], "layer", unit, base)
        assert torch.equal(update_cluster(pack(base), scores, labels, 1, sparsity, "layer", unit).unpack(), expected)


def test_a_cluster_that_cannot_be_selected():
    scores, mask = torch.rand(3, 8), pack(torch.ones(3, 8, dtype=torch.bool))
    with pytest.raises(UserError, match="3 units"):
        update_cluster(mask, scores, np.zeros(4, np.int16), 0, 0.5, "layer", "row")
    with pytest.raises(UserError, match="no unit 'head'"):
        update_cluster(mask, scores, np.zeros(3, np.int16), 0, 0.5, "layer", "head")
    with pytest.raises(UserError, match="Sparsity must"):
        update_cluster(mask, scores, np.zeros(3, np.int16), 0, 1.5, "layer", "row")


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 4000), levels=st.sampled_from([1, 5, 10**6]), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_the_kth_of_one_row_is_the_kth(n, levels, share, seed):
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, n)).float()
    k = min(n, 1 + int(share * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_MANY", 50)
        assert order._kth_of_one(values, k).tolist() == [float(values.sort().values[k - 1])]
        if k < n:  # the rows of a CPU, long and in many pieces
            patch.setattr(order_cpu, "_SAMPLE", 50)
            patch.setattr(order_cpu, "_CHUNK", 64)
            expected = torch.zeros(n, dtype=torch.bool)
            expected[values.sort(stable=True).indices[:k]] = True
            assert torch.equal(order.smallest(torch.stack([values, values]), k), torch.stack([expected, expected]))


def test_a_bracket_that_misses_is_noticed(monkeypatch):
    values = torch.arange(1000.0)
    for wrong in ((-2.0, -1.0), (10.0, 20.0), (990.0, 995.0)):
        monkeypatch.setattr(order, "bracket", lambda *_, wrong=wrong: wrong)
        monkeypatch.setattr(cluster_module, "bracket", lambda *_, wrong=wrong: wrong)
        monkeypatch.setattr(order_cpu, "bracket", lambda *_, wrong=wrong: wrong)
        monkeypatch.setattr(order, "_MANY", 100)
        monkeypatch.setattr(order_cpu, "_SAMPLE", 10)
        monkeypatch.setattr(cluster_module, "_FEW", 0)
        assert torch.equal(order.smallest(values[None], 500), values[None] < 500)
        assert order._kth_of_one(values, 500).item() == 499
        mask = update_cluster(
            pack(torch.ones(10, 100) > 0), values.view(10, 100), np.zeros(10, int), 0, 0.5, "layer", "row"
        )
        assert torch.equal(mask.unpack(), values.view(10, 100) >= 500)
