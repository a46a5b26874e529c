"""Counts, selection and packing, against a naive float64 oracle that sorts."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups, keep_masks, n_m_mask
from dit_prune_viz.masks.smallest_gpu import keep_greatest

EXAMPLES = settings(max_examples=40, deadline=None)
SPARSITIES = st.one_of(st.integers(0, 20).map(lambda twentieths: twentieths / 20), st.floats(0, 1))


@st.composite
def scored(draw) -> torch.Tensor:
    """Scores (d_out, d_in), most of them with many ties."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from([1, 2, 3, 10, 10**6]))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    scores = torch.from_numpy(random.integers(0, levels, (rows, columns)) * random.choice([1.0, 0.1, 1e-20]))
    return scores.to(draw(st.sampled_from([torch.float32, torch.bfloat16])))


def oracle(scores: torch.Tensor, groups: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Prune the floor(n·s) smallest of every group, given as flat ascending indices, ties by index."""
    flat = scores.double().numpy().ravel()
    keep = np.ones(flat.shape, dtype=bool)
    for group, sparsity in groups:
        n = math.floor(Fraction(sparsity) * len(group) + Fraction(1, 10**9))
        keep[group[np.argsort(flat[group], kind="stable")[:n]]] = False
    return keep.reshape(scores.shape)


def oracle_shares(scores: torch.Tensor, shares: list[np.ndarray], sparsity: float, fill: bool) -> list[int]:
    """The pruned indices of a cluster: floor(n·s) of each share, and if `fill` the smallest next up to floor(N·s)."""
    flat = scores.double().numpy().ravel()

    def count(n: int) -> int:
        return math.floor(Fraction(sparsity) * n + Fraction(1, 10**9))

    ordered = [sorted(share.tolist(), key=lambda i: (flat[i], i)) for share in shares]
    pruned = [i for share in ordered for i in share[: count(len(share))]]
    following = [i for share in ordered for i in share[count(len(share)) :][:1]]
    missing = count(sum(len(share) for share in shares)) - len(pruned) if fill else 0
    return pruned + sorted(following, key=lambda i: (flat[i], i))[:missing]


def indices(scores: torch.Tensor) -> np.ndarray:
    return np.arange(scores.numel()).reshape(scores.shape)


@EXAMPLES
@given(scores=scored(), sparsity=SPARSITIES, granularity=st.sampled_from(["layer", "row", "column"]))
def test_keep_mask_is_the_oracles(scores, sparsity, granularity):
    at = indices(scores)
    groups = {"layer": [at.ravel()], "row": list(at), "column": list(at.T)}[granularity]
    mask = keep_mask(scores, sparsity=sparsity, granularity=granularity)
    assert mask.dtype == torch.bool
    assert np.array_equal(mask.numpy(), oracle(scores, [(group, sparsity) for group in groups]))


@EXAMPLES
@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("granularity", ["layer", "row"])
@given(data=st.data(), scores=scored())
def test_clusters_are_the_oracles(unit, granularity, data, scores):
    rows, columns = scores.shape
    k = data.draw(st.integers(1, 5))
    sparsities = data.draw(st.lists(SPARSITIES, min_size=k, max_size=k))
    units = {"row": rows, "column": columns, "weight": rows * columns}[unit]
    labels = np.random.default_rng(data.draw(st.integers(0, 2**31))).integers(0, k, units)
    table = {
        "row": lambda: np.repeat(labels, columns),
        "column": lambda: np.tile(labels, rows),
        "weight": lambda: labels,
    }[unit]().reshape(rows, columns)
    keep = np.ones(scores.numel(), dtype=bool)
    for c, s in enumerate(sparsities):
        shares = [at[row == c] for at, row in zip(indices(scores), table, strict=True)]
        if granularity == "layer":
            shares = [np.concatenate(shares)]
        keep[oracle_shares(scores, shares, s, fill=unit != "row")] = False
    mask = keep_mask_groups(scores, labels, sparsities, granularity, unit)
    assert np.array_equal(mask.numpy(), keep.reshape(scores.shape))


@EXAMPLES
@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("granularity", ["layer", "row"])
@given(data=st.data(), scores=scored())
def test_a_cluster_without_a_sparsity_keeps_its_mask(unit, granularity, data, scores):
    rows, columns = scores.shape
    units = {"row": rows, "column": columns, "weight": rows * columns}[unit]
    random = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    labels, sparsities = random.integers(0, 3, units), [None, data.draw(SPARSITIES), None]
    base = torch.from_numpy(random.random(scores.shape) < 0.5)
    mask = keep_mask_groups(scores, labels, sparsities, granularity, unit, base)
    alone = keep_mask_groups(scores, labels, [0, sparsities[1], 0], granularity, unit)
    table = torch.from_numpy(labels)
    member = {"row": lambda: table[:, None], "column": lambda: table[None], "weight": lambda: table.view(rows, -1)}
    assert torch.equal(mask, torch.where(member[unit]() == 1, alone, base))


@EXAMPLES
@given(rows=st.integers(1, 6), blocks=st.integers(1, 4), m=st.integers(1, 6), data=st.data())
def test_n_m_is_the_oracles(rows, blocks, m, data):
    n = data.draw(st.integers(1, m))
    random = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    scores = torch.from_numpy(random.integers(0, 4, (rows, blocks * m)).astype(np.float32))
    groups = [(group, (m - n) / m) for group in indices(scores).reshape(-1, m)]
    assert np.array_equal(n_m_mask(scores, n, m).numpy(), oracle(scores, groups))


@pytest.mark.parametrize(("shape", "levels"), [((300, 700), 50), ((300, 700), 2**23), ((1, 5000), 1)])
@pytest.mark.parametrize("granularity", ["layer", "row"])
def test_larger_layers_are_the_oracles(shape, levels, granularity):
    scores = torch.from_numpy(np.random.default_rng(3).integers(0, levels, shape)).float()
    at = indices(scores)
    groups = [(group, 0.37) for group in ([at.ravel()] if granularity == "layer" else at)]
    mask = keep_mask(scores, sparsity=0.37, granularity=granularity)
    assert np.array_equal(mask.numpy(), oracle(scores, groups))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("granularity", ["layer", "row"])
@pytest.mark.parametrize("levels", [3, 2**23])
def test_a_gpu_selects_the_same(granularity, levels):
    random = np.random.default_rng(5)
    scores = torch.from_numpy(random.integers(0, levels, (200, 300))).float()
    labels, sparsities = random.integers(0, 3, scores.numel()), [0.2, 0.5, 0.9]
    mask = keep_mask(scores, sparsity=0.4, granularity=granularity)
    assert torch.equal(keep_mask(scores.cuda(), sparsity=0.4, granularity=granularity).cpu(), mask)
    mask = keep_mask_groups(scores, labels, sparsities, granularity, "weight")
    assert torch.equal(keep_mask_groups(scores.cuda(), labels, sparsities, granularity, "weight").cpu(), mask)
    assert torch.equal(pack(mask).to("cuda").unpack().cpu(), mask)


def test_masks_of_several_layers_are_those_of_each():
    random = np.random.default_rng(8)
    scores = [torch.from_numpy(random.standard_normal(shape)).float() for shape in ((40, 64), (3, 512), (64, 32))]
    cuts = [(0.4, "layer", None), (0.5, "2:4", None), (0.0, "row", 777)]
    sparsity, granularity, count = map(list, zip(*cuts, strict=True))
    together = keep_masks(scores, sparsity=sparsity, granularity=granularity, count=count)
    for table, mask, (share, how, number) in zip(scores, together, cuts, strict=True):
        assert torch.equal(mask, keep_mask(table, sparsity=share, granularity=how, count=number))
    assert [int((~mask).sum()) for mask in together] == [1024, 768, 777]
    with pytest.raises(ValueError, match="zip"):
        keep_masks(scores, sparsity=sparsity[:2], granularity=granularity)


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_the_kernels_of_a_gpu_choose_what_a_stable_sort_chooses():
    probe = Path(__file__).parent / "kernels_probe.py"
    done = subprocess.run([sys.executable, str(probe)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) == 126


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("shape", "granularity"), [((96, 700), "row"), ((1152, 4608), "layer"), ((4096, 4096), "layer")]
)
@pytest.mark.parametrize("levels", [3, 5000, 2**23])
def test_a_gpus_kernels_select_the_same(shape, granularity, levels):
    scores = torch.from_numpy(np.random.default_rng(5).integers(0, levels, shape)).float()
    if find_spec("triton"):
        rows = (scores if granularity == "row" else scores.view(1, -1)).cuda()
        assert keep_greatest([rows], [rows.shape[1] // 3])[0] is not None
    for sparsity in (0.001, 0.4, 0.98):
        mask = keep_mask(scores, sparsity=sparsity, granularity=granularity)
        assert torch.equal(keep_mask(scores.cuda(), sparsity=sparsity, granularity=granularity).cpu(), mask)
    scores[-1, -1] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        keep_mask(scores.cuda(), sparsity=0.5, granularity=granularity)


def test_equal_scores_go_in_order_of_index():
    mask = keep_mask(torch.ones(2, 4), sparsity=0.5)
    assert mask.tolist() == [[False] * 4, [True] * 4]
    mask = keep_mask(torch.ones(2, 4), sparsity=0.5, granularity="row")
    assert mask.tolist() == [[False, False, True, True]] * 2


def test_scores_stay_as_they_are():
    scores = torch.rand(5, 6)
    before = scores.clone()
    keep_mask(scores, sparsity=0.5)
    keep_mask_groups(scores, np.zeros(5, int), [0.5], "row", "row")
    assert torch.equal(scores, before)


@pytest.mark.parametrize(
    ("n", "sparsity", "expected"),
    [
        (10, 0.3, 3),
        (10, 0.1 + 0.2, 3),
        (10, 0.7 - 0.1, 6),
        (1152, 0.2, 230),
        (4608, 0.2, 921),
        (7, 0.0, 0),
        (7, 1.0, 7),
        (0, 0.5, 0),
        (3, 1 / 3, 1),
        (3, 0.33, 0),
        (10, 0.29, 2),
    ],
)
def test_removed(n, sparsity, expected):
    assert removed(n, sparsity) == expected


@settings(max_examples=100, deadline=None)
@given(tens=st.integers(1, 6_000_000), hundredths=st.integers(0, 100))
def test_removed_takes_a_decimal_sparsity_at_its_word(tens, hundredths):
    assert removed(100 * tens, hundredths / 100) == tens * hundredths


@pytest.mark.parametrize("bad", [-0.01, 1.01, float("nan"), float("inf"), "half", "0.5", None, True, [0.5], 1j])
def test_bad_sparsity(bad):
    with pytest.raises(UserError, match="Sparsity must"):
        check_sparsity(bad)
    with pytest.raises(UserError, match="Sparsity must"):
        keep_mask(torch.rand(2, 3), sparsity=bad)


def test_good_sparsity():
    assert [check_sparsity(s) for s in (0, 1, np.float32(0.5), 0.25)] == [0.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite(bad):
    scores = torch.rand(3, 4)
    scores[1, 1] = bad
    for select in (
        lambda: keep_mask(scores, sparsity=0.5),
        lambda: keep_mask_groups(scores, np.zeros(3, int), [0.5], "layer", "row"),
        lambda: n_m_mask(scores, 2, 4),
    ):
        with pytest.raises(UserError, match="NaN or infinite"):
            select()


def test_bad_arguments():
    scores = torch.rand(3, 4)
    with pytest.raises(UserError, match="no granularity 'block'"):
        keep_mask(scores, sparsity=0.5, granularity="block")
    with pytest.raises(UserError, match="no unit 'head'"):
        keep_mask_groups(scores, np.zeros(3, int), [0.5], "layer", "head")
    with pytest.raises(UserError, match="12 units"):
        keep_mask_groups(scores, np.zeros(3, int), [0.5], "layer", "weight")
    for labels in ([0, 1, 2], [0, -1, 1]):
        with pytest.raises(UserError, match="Cluster ids"):
            keep_mask_groups(scores, np.array(labels), [0.5, 0.5], "layer", "row")
    for n, m in ((2, 3), (0, 4), (5, 4)):
        with pytest.raises(UserError, match=f"{n}:{m}"):
            n_m_mask(scores, n, m)
    with pytest.raises(UserError, match="shape"):
        keep_mask(torch.rand(0, 4), sparsity=0.5)


@EXAMPLES
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_packing_loses_nothing(rows, columns, seed):
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) > 0.4
    packed = pack(mask)
    assert packed.bits.numel() == math.ceil(mask.numel() / 8)
    assert torch.equal(packed.unpack(), mask)
    assert packed.weights == mask.numel()
    assert packed.kept == int(mask.sum())
    assert packed.removed == int((~mask).sum())


def test_packing_a_transposed_mask():
    mask = torch.rand(5, 9) > 0.5
    assert torch.equal(pack(mask.T).unpack(), mask.T)


@EXAMPLES
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_weights_in_which_two_masks_differ(rows, columns, seed):
    first, second = np.random.default_rng(seed).random((2, rows, columns)) < 0.5
    packed = [pack(torch.from_numpy(mask)) for mask in (first, second)]
    assert packed[0].differing(packed[1]) == packed[1].differing(packed[0]) == int((first != second).sum())
    assert packed[0].differing(packed[0]) == 0
