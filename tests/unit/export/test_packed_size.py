"""Bytes of a packed model before it is written: exact, and estimated while a slider moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.packed_size import PackedSizes, packed_bytes, packed_sizes
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import calibrate_for, prune, rank_again
from dit_prune_viz.pruning.recipe import Recipe


def written(pruned, target, **options) -> int:
    """Bytes of the transformer's files, after the fact."""
    folder = pack(pruned, target, **options) / "transformer"
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("recipe", ["dit-pruning", "swap-update", "wanda"])
def test_the_exact_size_is_that_of_the_files(flux, tmp_path, recipe):
    pruned = prune(flux, recipe, sparsity=0.6)
    assert packed_bytes(pruned) == written(pruned, tmp_path / "exact")
    assert packed_bytes(pruned, values="int8") == written(pruned, tmp_path / "int8", values="int8")


def test_the_exact_size_of_another_family(sana, tmp_path):
    pruned = prune(sana, "magnitude", sparsity=0.5)
    assert packed_bytes(pruned) == written(pruned, tmp_path / "sana")


def test_measuring_can_be_cancelled_and_refuses_what_packing_refuses(flux):
    pruned = prune(flux, "magnitude", sparsity=0.5)

    def stop(done, total, what):
        raise Cancelled

    with pytest.raises(Cancelled):
        packed_bytes(pruned, stop)
    with pytest.raises(UserError, match="Kept weights are stored exact or int8, not 'int3'"):
        packed_bytes(pruned, values="int3")


def again(model, pruned, plan):
    """The model under another plan."""
    return rank_again(pruned, plan, Statistics(model, calibrate_for(model, pruned.recipe)))


def off(estimate: int, exact: int) -> float:
    return abs(estimate / exact - 1)


@pytest.mark.parametrize(
    ("saliency", "granularity", "sparsity"),
    [
        ("stw", "cag", 0.0),
        ("stw", "cag", 0.5),
        ("stw", "layer", 0.9),
        ("magnitude", "layer", 0.7),
        ("magnitude", "row", 0.3),
        ("wanda", "row", 0.6),
        ("wanda", "layer", 0.7),
        ("wanda", "2:4", 0.5),
        ("ria", "auto", 0.6),
    ],
)
def test_estimates_of_the_bundled_model_are_within_three_percent(bundled, saliency, granularity, sparsity):
    pruned = prune(bundled, Recipe(saliency, granularity, sparsity))
    exact, sizes = packed_bytes(pruned), packed_sizes(bundled)
    assert packed_sizes(bundled) is sizes  # made once
    assert off(sizes.estimate(pruned.plan), exact) < 0.03
    assert off(sizes.estimate(pruned), exact) < 0.03
    assert off(sizes.estimate(pruned.report), exact) < 0.03
    assert off(PackedSizes(bundled).estimate(pruned.report), exact) < 0.06  # it does not say how weights were ranked


@pytest.mark.parametrize("name", ["tiny_sana", "tiny_sd3", "tiny_dit"])
def test_estimates_of_small_random_models(name, request):
    model = load_model(request.getfixturevalue(name), device="cpu", dtype="bfloat16")
    for sparsity in (0.0, 0.5, 0.9):
        pruned = prune(model, "magnitude", sparsity=sparsity)
        exact, sizes = packed_bytes(pruned), PackedSizes(model)
        for known in (pruned, pruned.plan, pruned.report):
            assert off(sizes.estimate(known), exact) < 0.03


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_the_estimate_follows_a_cluster(bundled, unit):
    """One cluster of one layer from 50 to 90 %: the change is that of the exact size."""
    pruned = prune(bundled, "wanda", sparsity=0.5)
    layer = max(bundled.layers, key=lambda one: one.weights)
    units = {"row": layer.shape[0], "column": layer.shape[1], "weight": layer.weights}[unit]
    labels = (np.arange(units) * 7919 % 10 < 6).astype(np.uint8)
    plan = pruned.plan.with_clusters(layer.name, Clusters(unit, "lasso", labels, 2)).with_cluster_sparsity(
        layer.name, 1, 0.9
    )
    after = again(bundled, pruned, plan)
    sizes = PackedSizes(bundled)
    change = packed_bytes(after) - packed_bytes(pruned)
    assert change < 0
    assert sizes.estimate(plan) - sizes.estimate(pruned.plan) == pytest.approx(change, rel=0.15)
    assert sizes.estimate(after) - sizes.estimate(pruned) == pytest.approx(change, rel=0.15)


def test_layers_count_by_their_own_sparsities(bundled):
    pruned = prune(bundled, "magnitude", sparsity=0.5)
    layers = {name: layer.with_sparsity(0.9 if "mlp" in name else 0.2) for name, layer in pruned.plan.layers.items()}
    plan = replace(pruned.plan, layers=layers)
    after = again(bundled, pruned, plan)
    assert off(PackedSizes(bundled).estimate(plan), packed_bytes(after)) < 0.03
