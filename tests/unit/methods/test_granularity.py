"""G_out, its threshold and the choice of granularity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import check_granularity, check_n_m, n_of_m, removed_in_layer
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.granularity.cag import CAG
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.recipe import Recipe


def choose(granularity: str, g_out: dict[str, float], saliency: str) -> dict[str, str]:
    return find_method(Granularity, Recipe(saliency, granularity).resolved_granularity).choose(g_out)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 2**31), scale=st.integers(-25, 25))
def test_heterogeneity_is_the_variance_of_row_means_over_their_squared_mean(rows, columns, seed, scale):
    scores = (torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) + 1e-3) * 10.0**scale
    means = np.array([math.fsum(row) / columns for row in scores.double().tolist()])
    mean = math.fsum(means) / rows
    expected = math.fsum((means - mean) ** 2) / rows / mean**2
    assert heterogeneity(scores) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_heterogeneity_tells_channel_aligned_from_isotropic():
    noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    rows = torch.logspace(-2, 0, 64)[:, None]
    assert heterogeneity(noise) < 0.01
    assert heterogeneity(noise * rows) > 0.5
    assert heterogeneity((noise * rows).T) < 0.05  # only rows count


def test_heterogeneity_of_nothing_is_zero():
    assert heterogeneity(torch.zeros(3, 4)) == 0.0
    assert heterogeneity(torch.ones(3, 4)) == 0.0
    assert heterogeneity(torch.rand(1, 4)) == 0.0


def brute_force_threshold(values: list[float]) -> float:
    """Try every split of the sorted values; the least sum of squares inside the two groups wins."""
    positive = sorted(value for value in values if value > 0)
    logs = [math.log10(value) for value in positive]

    def spread(group: list[float]) -> float:
        mean = math.fsum(group) / len(group)
        return math.fsum((x - mean) ** 2 for x in group)

    splits = [i for i in range(1, len(logs)) if positive[i] > positive[i - 1]]
    if not splits:
        return math.inf
    cut = min(splits, key=lambda i: spread(logs[:i]) + spread(logs[i:]))
    return math.sqrt(positive[cut - 1] * positive[cut])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-40, 30), max_size=25), st.integers(0, 2**31))
def test_threshold_is_the_best_split_of_all(tenths, seed):
    # A little jitter keeps two splits from being equally good; repeated values stay repeated.
    jitter = np.random.default_rng(seed).random(71)
    values = [10.0 ** ((t + 0.4 * jitter[t + 40]) / 10) for t in tenths] + [0.0]
    expected = brute_force_threshold(values)
    found = cag_threshold(values)
    assert found == pytest.approx(expected) if math.isfinite(expected) else found == math.inf


def test_threshold_takes_the_modulation_layers():
    g_out = {f"adaLN {i}": value for i, value in enumerate([0.46, 0.55, 0.61, 0.7, 0.99])}
    g_out |= {f"attention {i}": value for i, value in enumerate([0.03, 0.065, 0.07, 0.1, 2.9])}
    g_out |= {f"mlp {i}": value for i, value in enumerate([0.02, 0.039, 0.04, 0.05, 0.06])}
    threshold = cag_threshold(g_out.values())
    assert threshold == pytest.approx(math.sqrt(0.1 * 0.46))
    rows = {name for name, granularity in choose("cag", g_out, "dit-pruning").items() if granularity == "row"}
    assert rows == {name for name in g_out if name.startswith("adaLN")} | {"attention 4"}


def test_threshold_of_few_values():
    assert cag_threshold([]) == math.inf
    assert cag_threshold([0.0, 0.0]) == math.inf
    assert cag_threshold([0.3, 0.3, 0.0]) == math.inf
    low, high = 1.0, math.nextafter(1.0, 2.0)
    assert low <= cag_threshold([high, low]) < high  # neighbours have no number between them
    assert cag_threshold([0.01, 1.0, 0.0]) == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_threshold_refuses_what_is_no_heterogeneity(bad):
    with pytest.raises(UserError, match="G_out"):
        cag_threshold([0.1, bad])


def test_auto_does_what_each_paper_does():
    g_out = {"a": 0.01, "b": 1.0}
    assert choose("auto", g_out, "magnitude") == {"a": "layer", "b": "layer"}
    assert choose("auto", g_out, "wanda") == {"a": "row", "b": "row"}
    assert choose("auto", g_out, "dit-pruning") == {"a": "layer", "b": "row"}
    assert choose("auto", g_out, "stw:1.5,1") == {"a": "layer", "b": "row"}
    assert choose("layer", g_out, "wanda") == {"a": "layer", "b": "layer"}
    assert choose("row", g_out, "magnitude") == {"a": "row", "b": "row"}
    assert choose("cag", g_out, "magnitude") == {"a": "layer", "b": "row"}


def test_a_threshold_of_ones_own():
    g_out = {"a": 0.01, "b": 1.0}
    assert CAG().choose(g_out, 0.0) == {"a": "row", "b": "row"}
    assert CAG().choose(g_out, 1.0) == {"a": "layer", "b": "layer"}
    for bad in (float("nan"), -1.0):
        with pytest.raises(UserError, match="threshold"):
            CAG().choose(g_out, bad)


def test_ria_and_obs_by_their_papers():
    g_out = {"a": 0.01, "b": 1.0}
    for method in ("ria", "ria:0.7"):
        assert choose("auto", g_out, method) == {"a": "row", "b": "row"}
    assert choose("auto", g_out, "obs") == {"a": "layer", "b": "layer"}


def test_columns_and_n_m_for_all():
    g_out = {"a": 0.01, "b": 1.0}
    assert choose("column", g_out, "dit-pruning") == {"a": "column", "b": "column"}
    for granularity in ("column", "2:4", "1:16"):
        assert check_granularity(granularity) == granularity
        assert Recipe(granularity=granularity).resolved_granularity == granularity
    assert list(methods_of(Granularity)) == ["cag", "layer", "row", "column"]
    assert (n_of_m("4:8"), n_of_m("row"), n_of_m(None)) == ((4, 8), None, None)


def test_what_a_layer_loses():
    assert removed_in_layer((3, 8), "layer", 0.3) == 7
    assert removed_in_layer((3, 8), "row", 0.3) == 6
    assert removed_in_layer((3, 8), "column", 0.34) == 8
    assert removed_in_layer((3, 8), "1:4", 0.0) == 18
    with pytest.raises(UserError, match="4:6 does not fit a layer with 8 inputs"):
        removed_in_layer((3, 8), "4:6", 0.3)


@pytest.mark.parametrize("bad", ["block", "cag:2", "2:", "0:4", "2:4:8", "-1:4", "2.5:4", " 2:4", 24, None, ["row"]])
def test_unknown_granularity(bad):
    with pytest.raises(UserError, match="no granularity"):
        check_granularity(bad)
    with pytest.raises(
        UserError, match="no granularity|takes no options" if isinstance(bad, str) else "granularity is a text"
    ):
        Recipe("wanda", bad)


def test_impossible_n_m():
    for bad in ("4:4", "5:4"):
        with pytest.raises(UserError, match="N must be smaller than M"):
            check_granularity(bad)
    with pytest.raises(UserError, match=r"2:4 does not fit layer blocks\.0\.q with 30 inputs"):
        check_n_m("2:4", 30, "blocks.0.q")
    check_n_m("row", 30)
