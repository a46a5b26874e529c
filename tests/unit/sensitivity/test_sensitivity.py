"""Sensitivity of single layers against models with weights zeroed by hand; kept figures; cancelling."""

from __future__ import annotations

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.recorded_inputs import held_out_inputs, run_call
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.running import pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.build_masks import build_mask, build_masks
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.sensitivity import measure
from dit_prune_viz.sensitivity.measure import measure_sensitivity
from dit_prune_viz.sensitivity.result import Sensitivity


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=8, seed=1, steps=3)


@pytest.fixture(autouse=True)
def nothing_kept():
    measure._CACHE.clear()


def magnitude(model):
    return lambda name, sparsity: pack(keep_mask(model.weight(name).abs(), sparsity=sparsity))


def naive(model, calibration, name, mask, samples) -> float:
    """Zero the weights in a model of its own, and compare outputs in float64."""
    inputs = held_out_inputs(model, calibration, samples)
    with torch.no_grad():
        dense = [output.double() for call in inputs.calls for output in run_call(model, call)]
        weight, kept = model.weight(name), model.weight(name).clone()
        weight.mul_(mask)
        sparse = [output.double() for call in inputs.calls for output in run_call(model, call)]
        weight.copy_(kept)
    lost = sum((one - two).square().sum() for one, two in zip(sparse, dense, strict=True))
    return float(lost / sum(one.square().sum() for one in dense))


def test_errors_and_damages_equal_the_naive_ones(tiny_flux, flux, calibration):
    plan = make_plan(flux.layers, flux.weight, calibration.norm, sparsity=0.5)
    found = measure_sensitivity(flux, calibration, plan, sparsities=(0.7, 0.4), inputs=3)
    assert found.sparsities == (0.4, 0.7)
    assert found.samples == 3
    assert list(found.errors) == list(found.damages) == [layer.name for layer in flux.layers]
    other = load_model(tiny_flux, device="cpu")
    for name in (flux.layers[0].name, flux.layers[9].name, flux.layers[-1].name):
        saliency, norm = plan.saliency, calibration.norm(name)
        for place, sparsity in enumerate((0.4, 0.7)):
            layer = make_plan(flux.layers, flux.weight, calibration.norm, sparsity=sparsity).layer(name)
            mask = build_mask(layer, saliency, flux.weight(name), norm)
            expected = naive(other, calibration, name, mask, 3)
            assert found.errors[name][place] == pytest.approx(expected, rel=1e-3)
            predicted = damage(flux.weight(name), calibration.mean_square(name), mask)
            assert found.damages[name][place] == pytest.approx(predicted)
    assert not [name for name, module in flux.transformer.named_modules() if "forward" in vars(module)]


def test_a_function_may_rank(flux, calibration):
    found = measure_sensitivity(flux, calibration, magnitude(flux), sparsities=[0.0, 0.9], inputs=2)
    assert all(errors[0] == 0 < errors[1] for errors in found.errors.values())


def test_figures_are_kept_by_content(flux, calibration):
    calls = 0

    def count(module, args, kwargs):
        nonlocal calls
        calls += 1

    handle = flux.transformer.register_forward_pre_hook(count, with_kwargs=True)
    try:
        first = measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5,), inputs=2)
        once, calls = calls, 0
        again = measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5,), inputs=2)
        assert (calls, again.errors) == (0, first.errors)
        measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5, 0.6), inputs=2)
        assert once <= calls + 1  # the new sparsity only; a second look at the inputs
        calls = 0
        measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5,), inputs=3)
        assert calls >= once
    finally:
        handle.remove()


def test_cancelling_keeps_what_was_measured(flux, calibration):
    seen = []

    def stop(done, total, what):
        seen.append((done, total, what))
        if done == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5,), inputs=2, progress=stop)
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 4]
    assert "left" not in seen[0][2]
    assert "s left" in seen[2][2]
    assert len(measure._CACHE) == 4
    assert flux.lock.acquire(blocking=False)
    flux.lock.release()


def test_weights_are_slopes_of_error_over_damage():
    found = Sensitivity(
        (0.3, 0.6), {"a": (0.02, 0.08), "b": (0.0, 0.0)}, {"a": (0.1, 0.4), "b": (0.0, 0.0)}, samples=4, seconds=0.0
    )
    assert found.weights() == pytest.approx({"a": 0.2, "b": 0.0})
    assert found.error("a", 0.45) == pytest.approx(0.05)
    assert found.error("a", 0.15) == pytest.approx(0.01)
    assert found.error("a", 0.9) == pytest.approx(0.08)
    with pytest.raises(UserError, match="not measured"):
        found.error("c", 0.5)


@pytest.mark.parametrize("bad", [{"sparsities": ()}, {"sparsities": (1.5,)}, {"inputs": 0}, {"inputs": 2.5}])
def test_bad_numbers(flux, calibration, bad):
    with pytest.raises(UserError):
        measure_sensitivity(flux, calibration, magnitude(flux), **{"sparsities": (0.5,), "inputs": 1, **bad})


def test_a_pruned_model_is_not_measured(flux, calibration):
    one = {flux.layers[0].name: magnitude(flux)(flux.layers[0].name, 0.5)}
    with pruned(flux, one), pytest.raises(UserError, match="pruned already"):
        measure_sensitivity(flux, calibration, magnitude(flux), sparsities=(0.5,), inputs=1)


def test_a_plan_ranks_by_the_norms_it_was_made_with(flux, calibration):
    def centred(layer):
        return calibration.norm(layer, centred=flux.transformer.get_submodule(layer).bias is not None)

    plan = make_plan(flux.layers, flux.weight, centred, method="wanda", granularity="row", sparsity=0.5)
    masks = build_masks(plan, flux.weight, centred)
    found = measure_sensitivity(flux, calibration, plan, sparsities=(0.5,), inputs=2, norm=centred)
    expected = measure_sensitivity(flux, calibration, lambda layer, _: masks[layer], sparsities=(0.5,), inputs=2)
    assert found.errors == expected.errors
    assert found.errors != measure_sensitivity(flux, calibration, plan, sparsities=(0.5,), inputs=2).errors
