"""Sensitivity of single layers against models with weights zeroed by hand; kept figures; cancelling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.recorded_inputs import held_out_inputs, run_call
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.registry import _METHODS
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import layer_sensitivity, rank
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.sensitivity.measure import measure_sensitivity
from dit_prune_viz.sensitivity.result import Sensitivity


@pytest.fixture(scope="module")
def calibration(tiny_flux):
    return calibrate(load_model(tiny_flux, device="cpu", dtype="float32"), samples=8, seed=1, steps=3)


@pytest.fixture
def flux(tiny_flux):
    """A model of its own for every test: figures are kept with it."""
    return load_model(tiny_flux, device="cpu", dtype="float32")


@pytest.fixture
def statistics(flux, calibration):
    return Statistics(flux, calibration)


def magnitude(model):
    return lambda name, sparsities: [pack(keep_mask(model.weight(name).abs(), sparsity=at)) for at in sparsities]


def naive(model, calibration, name, mask, samples) -> float:
    """Zero the weights in a model of its own, and compare what guidance makes of both halves in float64."""
    inputs = held_out_inputs(model, calibration, samples)
    places = [place for call in inputs.calls for place in call.places]
    assert len({place[:2] for place in places}) == -(-samples // 2)  # each with both halves

    def guided():
        found = {place: output.double() for place, output in zip(places, outputs(), strict=True)}
        for run, step, half in places:
            one, other = found[run, step, half], found[run, step, 1 - half]
            yield 3.0 * one - 2.0 * other  # the tiny model's guidance is 3

    def outputs():
        return [output for call in inputs.calls for output in run_call(model, call)]

    with torch.no_grad():
        dense = list(guided())
        weight, kept = model.weight(name), model.weight(name).clone()
        weight.mul_(mask)
        sparse = list(guided())
        weight.copy_(kept)
    lost = sum((one - two).square().sum() for one, two in zip(sparse, dense, strict=True))
    return float(lost / sum(one.square().sum() for one in dense))


def test_errors_and_damages_equal_the_naive_ones(tiny_flux, flux, calibration, statistics):
    found = measure_sensitivity(statistics, magnitude(flux), sparsities=(0.7, 0.4), inputs=3)
    assert found.sparsities == (0.4, 0.7)
    assert found.samples == 3
    assert list(found.errors) == list(found.damages) == [layer.name for layer in flux.layers]
    other = load_model(tiny_flux, device="cpu")
    for name in (flux.layers[0].name, flux.layers[9].name, flux.layers[-1].name):
        for place, sparsity in enumerate((0.4, 0.7)):
            mask = magnitude(flux)(name, [sparsity])[0].unpack()
            assert found.errors[name][place] == pytest.approx(naive(other, calibration, name, mask, 3), rel=1e-3)
            predicted = damage(flux.weight(name), calibration.mean_square(name), mask)
            assert found.damages[name][place] == pytest.approx(predicted)
    assert not [name for name, module in flux.transformer.named_modules() if "forward" in vars(module)]


def test_nothing_pruned_costs_nothing(flux, statistics):
    found = measure_sensitivity(statistics, magnitude(flux), sparsities=[0.0, 0.9], inputs=2)
    assert all(errors[0] == 0 < errors[1] for errors in found.errors.values())


def test_figures_are_kept_by_content(flux, statistics):
    calls = 0

    def count(module, args, kwargs):
        nonlocal calls
        calls += 1

    handle = flux.transformer.register_forward_pre_hook(count, with_kwargs=True)
    try:
        alone = len(statistics.held_out(2).calls) * (1 + len(flux.layers))  # the dense model, then every layer pruned
        calls = 0
        first = measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5,), inputs=2)
        assert calls == alone
        calls = 0
        again = measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5,), inputs=2)
        assert (calls, again.errors) == (0, first.errors)
        measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5, 0.6), inputs=2)
        assert calls == alone  # of the new sparsity only, after the dense outputs once more
        calls = 0
        measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5,), inputs=3)
        assert calls > alone  # other inputs are recorded first
    finally:
        handle.remove()


def test_cancelling_keeps_what_was_measured(flux, statistics):
    seen = []

    def stop(done, total, what):
        seen.append((done, total, what))
        if done == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5,), inputs=2, progress=stop)
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 4]
    assert "left" not in seen[0][2]
    assert "s left" in seen[2][2]
    kept = [key for key in flux.cache._entries if key[0] == "sensitivity"]
    assert [key[3] for key in kept] == [layer.name for layer in flux.layers[:4]]
    assert flux.lock.free


@pytest.fixture
def always_long(monkeypatch):
    for module in ("dit_prune_viz.disk_cache", "dit_prune_viz.sensitivity.measure"):
        monkeypatch.setattr(f"{module}.LONG_SECONDS", 0.0)


def test_what_took_long_is_found_on_disk_by_another_process(tiny_flux, calibration, tmp_path, always_long):
    def measure(layers: int, sparsity: float):
        model = load_model(tiny_flux, device="cpu", dtype="float32")  # with an empty cache, as in a new process
        known, runs = Statistics(model, calibration, disk=DiskCache(tmp_path)), []
        model.transformer.register_forward_pre_hook(lambda *_: runs.append(1))

        def stop(done, total, what):
            if done == layers:
                raise Cancelled

        try:
            errors = measure_sensitivity(
                known, magnitude(model), sparsities=(sparsity,), inputs=2, progress=stop if layers else None
            ).errors
        except Cancelled:
            errors = {}
        return errors, len(runs)

    measure(4, 0.5)
    first, rest = measure(0, 0.5)
    again, none = measure(0, 0.5)
    fresh, every = measure(0, 0.6)
    assert (again, none) == (first, 0)
    assert fresh != first
    calls = every // (len(first) + 1 + 1)  # recorded inputs, the dense outputs, every layer pruned
    assert every - rest >= 4 * calls > 0


def test_a_layer_is_scored_once_for_all_sparsities(flux, statistics, monkeypatch):
    scored = []

    class Counted(Saliency):
        needs = ("norm",)

        def score(self, weight, norm):
            scored.append(weight.shape)
            return weight.abs() * norm

    monkeypatch.setattr(flux.cache, "limit", 0)  # as for a model whose scores would be as large as its weights
    monkeypatch.setitem(_METHODS["saliency"], "counted", Counted)
    monkeypatch.setattr(Counted, "name", "counted")
    layer_sensitivity(Recipe("counted", "row", allocation="damage-aware", sensitivity=True), statistics)
    assert len(scored) == 2 * len(flux.layers)  # for the plan's G_out, then for all sparsities


def test_what_is_left_of_a_layer_costs_more_than_its_slope_says():
    """As measured on a layer of keys: nine tenths cost little, all of it very much."""
    damages, errors = (0.04, 0.14, 0.4, 1.0), (0.0008, 0.0037, 0.019, 0.7)
    found = Sensitivity((0.5, 0.7, 0.9, 1.0), {"k": errors}, {"k": damages}, samples=4, seconds=0.0)
    slope = (0.04 * 0.0008 + 0.14 * 0.0037) / (0.04**2 + 0.14**2)
    assert found.weights() == pytest.approx({"k": slope})
    curve = found.curves()["k"]
    assert curve.at(np.array([0.0, 0.02, 0.14, 0.7, 1.0])) == pytest.approx([0.0, 0.0004, 0.0037, 0.3595, 0.7])
    # Errors that fall are noise: more pruning is never better.
    noisy = Sensitivity((0.5, 0.7), {"k": (0.3, 0.2)}, {"k": (0.1, 0.2)}, samples=4, seconds=0.0)
    assert noisy.curves()["k"].at(np.array([0.15, 0.2])) == pytest.approx([0.3, 0.3])


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
def test_bad_numbers(flux, statistics, bad):
    with pytest.raises(UserError):
        measure_sensitivity(statistics, magnitude(flux), **{"sparsities": (0.5,), "inputs": 1, **bad})


def test_a_pruned_model_is_not_measured(flux, statistics):
    one = {flux.layers[0].name: PrunedLayer(magnitude(flux)(flux.layers[0].name, [0.5])[0])}
    with running_pruned(flux, one), pytest.raises(UserError, match="pruned already"):
        measure_sensitivity(statistics, magnitude(flux), sparsities=(0.5,), inputs=1)


def test_a_recipe_weighs_layers_by_its_own_ranking(statistics):
    recipe = Recipe("wanda", "row", allocation="damage-aware", sensitivity=True, centred=True)

    def masks_at(sparsity: float, centred: bool):
        ranked = rank(Recipe("wanda", "row", sparsity=sparsity, centred=centred), statistics)
        return {name: layer.mask for name, layer in ranked.layers.items()}

    def errors(centred: bool):
        masks = {sparsity: masks_at(sparsity, centred) for sparsity in (0.5, 0.7, 0.9, 1.0)}
        ranking = lambda layer, levels: [masks[level][layer] for level in levels]  # noqa: E731
        return measure_sensitivity(statistics, ranking, inputs=16).errors

    assert layer_sensitivity(recipe, statistics).errors == errors(centred=True) != errors(centred=False)
