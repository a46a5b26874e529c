"""Statistics are made when first asked for, once, and go with their model."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.damped_inverse import inverse_diagonal
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.statistics import STATISTICS, Statistics, check_needs
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import prune


@pytest.fixture
def model(tiny_flux):
    return load_model(tiny_flux, device="cpu", dtype="float32")


@pytest.fixture
def statistics(model):
    return Statistics(model, calibrate(model, samples=6, steps=2))


@pytest.fixture
def calls(model):
    """One entry for every run of the transformer."""
    seen = []
    model.transformer.register_forward_pre_hook(lambda *_: seen.append(1))
    return seen


def test_each_is_what_it_says(model, statistics):
    layer, edges = model.layers[-1].name, statistics.calibration.edges
    hessian = collect_hessians(model, [layer], like=statistics.calibration, weights=timestep_weights("log", edges))[
        layer
    ]
    expected = {
        "norm": hessian.diagonal().sqrt(),
        "hessian": hessian,
        "inverse_hessian": inverse_diagonal(hessian),
        "mean": statistics.calibration.mean(layer, timestep_weights("log", edges)),
        "mean_square": statistics.calibration.mean_square(layer, timestep_weights("log", edges)),
    }
    assert set(expected) == set(STATISTICS)
    for name, values in expected.items():
        torch.testing.assert_close(statistics.get(name, layer, timestep="log"), values, rtol=1e-3, atol=1e-4)
        shape = (hessian.shape[0],) * (2 if name == "hessian" else 1)
        assert statistics.get(name, layer).shape == shape
        assert not torch.equal(statistics.get(name, layer), statistics.get(name, layer, timestep="log"))


@pytest.mark.parametrize("name", ["hessian", "inverse_hessian"])
def test_what_takes_runs_of_the_model_is_made_once_for_all_who_ask(model, statistics, calls, name):
    first, last = model.layers[0].name, model.layers[-1].name
    found = statistics.get(name, first)
    once = len(calls)
    assert once
    again = Statistics(model, statistics.calibration)
    assert again.get(name, first) is found
    again.get(name, last)
    assert len(calls) == once
    other = Statistics(model, calibrate(model, samples=5, steps=2))
    assert other.inputs is not statistics.inputs
    once = len(calls)
    other.get(name, first)
    assert len(calls) > once


def test_recorded_inputs_and_examples_are_kept(statistics, calls):
    inputs, held_out, examples = statistics.inputs, statistics.held_out(3), statistics.distillation_set(2)
    once = len(calls)
    again = statistics.reporting(None)
    assert again.inputs is inputs
    assert again.held_out(3) is held_out
    assert again.distillation_set(2) is examples
    assert len(calls) == once
    assert (inputs.samples, held_out.samples, examples.samples) == (6, 4, 32)  # held out: in pairs
    assert again.held_out(4) is not held_out


def test_progress_is_told_and_may_cancel(model, statistics):
    told = []

    def stop(*step):
        told.append(step)
        raise Cancelled

    with pytest.raises(Cancelled):
        statistics.reporting(stop).inverse_hessian(model.layers[0].name)
    assert len(told) == 1
    assert model.lock.free
    assert not [key for key in model.cache._entries if "inverse_hessian" in key]


def test_inverses_that_took_long_are_found_on_disk(tiny_flux, tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", 0.0)

    def inverse(timestep: str):
        model = load_model(tiny_flux, device="cpu", dtype="float32")
        known, runs = Statistics(model, calibrate(model, samples=4, steps=2), disk=DiskCache(tmp_path)), []
        model.transformer.register_forward_pre_hook(lambda *_: runs.append(1))
        return [known.inverse_hessian(layer.name, timestep) for layer in model.layers], len(runs)

    first, runs = inverse("log")
    again, none = inverse("log")
    other, more = inverse("early")
    assert runs
    assert more
    assert not none
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_an_unknown_statistic_is_refused_by_its_name(model, statistics):
    known = "norm, mean, mean_square, inverse_hessian, hessian"
    for name in ("temperature", "", None):
        with pytest.raises(UserError, match=f"statistic {name!r}; known are {known}"):
            statistics.get(name, model.layers[0].name)
        with pytest.raises(UserError, match=f"Mine needs {name!r}, which is no known statistic; known are {known}"):
            check_needs(("norm", name), "Mine")
    check_needs((*STATISTICS,), "Mine")


def test_all_goes_with_the_model(tiny_flux):
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    statistics = Statistics(model, calibrate(model, samples=4, steps=2))
    prune(model, "swap-update", sparsity=0.5, statistics=statistics)
    name = model.layers[0].name
    kept = [
        model.transformer,
        statistics.inverse_hessian(name),
        statistics.hessian(name),
        statistics.inputs,
        statistics.distillation_set(2),
        statistics.calibration,
    ]
    seen = [weakref.ref(one) for one in kept]
    assert model.cache.nbytes > 0
    assert all(ref() is not None for ref in seen)
    del model, statistics, kept
    gc.collect()
    assert [ref() for ref in seen] == [None] * len(seen)


def test_a_layer_that_sees_only_zeros_loses_any_weights(model):
    name = model.layers[2].name
    module = model.transformer.get_submodule(name)
    module.register_forward_pre_hook(lambda module, args: (torch.zeros_like(args[0]),))
    statistics = Statistics(model, calibrate(model, samples=4, steps=2))
    assert not statistics.norm(name).any()
    assert torch.isfinite(statistics.inverse_hessian(name)).all()
    for recipe in ("obs", "dit-pruning", "obs-update", "swap-update"):
        pruned = prune(model, recipe, sparsity=0.5, statistics=statistics)
        assert pruned.report.achieved == pytest.approx(0.5, abs=0.001)
        assert not pruned.layers[name].updated
        assert pruned.layers[name].mask.kept + pruned.layers[name].mask.removed == module.weight.numel()
