"""Convergence of masks over calibration samples: nested parts of one draw."""

from __future__ import annotations

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.convergence import measure_convergence
from dit_prune_viz.experiments.convergence_table import find_convergence
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.recipe import Recipe


def wanda(model, seen):
    def build(calibration):
        seen.append(calibration)
        return {
            layer.name: pack(
                keep_mask(
                    model.weight(layer.name).abs() * calibration.norm(layer.name), sparsity=0.5, granularity="row"
                )
            )
            for layer in model.layers
        }

    return build


def test_sizes_are_nested_and_the_largest_is_the_whole_calibration(flux):
    seen = []
    found = measure_convergence(flux, wanda(flux, seen), sizes=(20, 4, 8), seed=3, steps=4)
    assert found.sizes == (4, 8, 20)
    whole = calibrate(flux, samples=20, seed=3, steps=4)
    for layer in flux.layers:
        sums = [calibration.sum_squares[layer.name] for calibration in seen]
        torch.testing.assert_close(sums[2], whole.sum_squares[layer.name], rtol=1e-3, atol=1e-6)
        assert torch.equal(seen[2].tokens[layer.name], whole.tokens[layer.name])
        tokens = [int(calibration.tokens[layer.name].sum()) for calibration in seen]
        assert [count / tokens[2] for count in tokens] == [4 / 20, 8 / 20, 1]
        assert bool((sums[0] <= sums[1]).all())
        assert bool((sums[1] <= sums[2]).all())
    masks = [wanda(flux, [])(calibration) for calibration in seen]
    weights = sum(mask.weights for mask in masks[0].values())

    def differ(first, second) -> float:
        return sum(int((first[name].unpack() != second[name].unpack()).sum()) for name in first) / weights

    assert found.changed == (differ(masks[0], masks[1]), differ(masks[1], masks[2]))
    assert found.to_largest == (differ(masks[0], masks[2]), differ(masks[1], masks[2]), 0)
    assert 0 < found.changed[0] < 0.5


@pytest.mark.parametrize("bad", [{"sizes": (4,)}, {"sizes": (4, 4)}, {"sizes": (0, 4)}, {"prompts": ()}, {"steps": 0}])
def test_bad_settings(flux, bad):
    with pytest.raises(UserError):
        measure_convergence(flux, wanda(flux, []), **{"sizes": (1, 2), **bad})


def test_cancelling_leaves_no_hook(flux):
    def stop(*args):
        raise Cancelled

    with pytest.raises(Cancelled):
        measure_convergence(flux, wanda(flux, []), sizes=(1, 2), progress=stop)
    assert not any(module._forward_pre_hooks for module in flux.transformer.modules())


def test_figures_that_took_long_are_found_on_disk(tiny_flux, tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", 0.0)

    def measure(recipe, sizes=(2, 4)):
        model, runs = load_model(tiny_flux, device="cpu", dtype="float32"), []
        model.transformer.register_forward_pre_hook(lambda *_: runs.append(1))
        return find_convergence(recipe, model, sizes=sizes, disk=DiskCache(tmp_path)), bool(runs)

    first, ran = measure(Recipe("wanda", "row"))
    assert measure(Recipe("wanda", "row")) == (first, False)
    assert ran
    assert measure(Recipe("wanda", "row", sparsity=0.6))[1]
    assert measure(Recipe("wanda", "row"), sizes=(2, 5))[1]
    assert isinstance(first.sizes[0], int)
