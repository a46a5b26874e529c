"""Candidates against what they stand for, on the tiny FLUX."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.damped_inverse import damped, inverse_diagonal
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.requests import paint, requests_for
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.damage import damage_second_moment
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.candidates import CANDIDATES, Candidate
from dit_prune_viz.pruning.levels import Level
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.supplies import Supplies


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=16, prompts=("the moon", "a cup of tea"))


@pytest.fixture(scope="module")
def supplies(flux, calibration):
    return Supplies(flux, calibration)


@pytest.mark.parametrize("candidate", CANDIDATES.values(), ids=list(CANDIDATES))
def test_every_built_in_candidate_prunes_what_it_is_asked_to(flux, calibration, supplies, candidate):
    candidate = replace(candidate, distil=min(candidate.distil, 3))
    pruned = prune(candidate, flux, calibration, Level(0.6), supplies=supplies)
    assert set(pruned.masks) == {layer.name for layer in flux.layers}
    slack = sum(layer.shape[0] for layer in flux.layers) if candidate.allocation == "uniform" else 0
    target = int(0.6 * flux.prunable_parameters)
    assert target - slack <= pruned.report.removed <= target
    assert bool(pruned.updates) == bool(candidate.update)
    for name, update in pruned.updates.items():
        assert not update.dense(flux.weight(name))[~pruned.masks[name].unpack()].any()


def test_the_baselines_are_their_formulas(flux, calibration, supplies):
    formulas = {
        "magnitude": (lambda w, x: w.abs(), "layer"),
        "wanda": (lambda w, x: w.abs() * x, "row"),
        "stw": (lambda w, x: w.square() * x, "layer"),
    }
    for name, (formula, granularity) in formulas.items():
        masks = prune(CANDIDATES[name], flux, calibration, Level(0.5), supplies=supplies).masks
        for layer in flux.layers:
            scores = formula(flux.weight(layer.name), calibration.norm(layer.name))
            expected = keep_mask(scores, sparsity=0.5, granularity=granularity)
            assert torch.equal(masks[layer.name].unpack(), expected)


def test_a_pattern_keeps_two_of_four(flux, calibration, supplies):
    masks = prune(CANDIDATES["dit-pruning"], flux, calibration, Level(0.5, "2:4"), supplies=supplies).masks
    for mask in masks.values():
        assert (mask.unpack().view(-1, 4).sum(1) == 2).all()
    with pytest.raises(UserError):
        prune(Candidate("x"), flux, calibration, Level(2 / 3, "1:3"), supplies=supplies)


def test_exchanges_keep_patterns_and_counts_and_lower_the_error(flux, calibration, supplies):
    candidate = CANDIDATES["exchange-mask"]
    found = prune(candidate, flux, calibration, Level(0.5, "2:4"), supplies=supplies)
    assert not found.updates
    plain = prune(Candidate("x", "stw:2,1"), flux, calibration, Level(0.5, "2:4"), supplies=supplies)
    hessians = collect_hessians(flux, list(found.masks), like=calibration, inputs=supplies.inputs)
    for name, mask in found.masks.items():
        assert (mask.unpack().view(-1, 4).sum(1) == 2).all()
        errors = [
            damage_second_moment(flux.weight(name), damped(hessians[name], 0.1), masks.unpack())
            for masks in (mask, plain.masks[name])
        ]
        assert errors[0] <= errors[1] * 1.0001
    assert any(not torch.equal(mask.bits, plain.masks[name].bits) for name, mask in found.masks.items())


def test_a_rehearsal_moves_the_budget_to_where_errors_cancel(flux, calibration, supplies):
    level = Level(0.6)
    exchanging = prune(CANDIDATES["exchange"], flux, calibration, level, supplies=supplies)
    without = prune(replace(CANDIDATES["exchange"], exchange=False), flux, calibration, level, supplies=supplies)
    assert exchanging.report.removed == without.report.removed == int(0.6 * flux.prunable_parameters)
    assert [layer.removed for layer in exchanging.report.layers] != [layer.removed for layer in without.report.layers]
    again = prune(CANDIDATES["exchange"], flux, calibration, level, supplies=supplies)
    assert all(torch.equal(mask.bits, again.masks[name].bits) for name, mask in exchanging.masks.items())


def test_timesteps_weigh_on_saliency_and_update(flux, calibration, supplies):
    name = flux.layers[0].name
    weights = timestep_weights("log", calibration.edges)
    assert torch.equal(supplies.norm("log")(name), calibration.norm(name, weights))
    log, uniform = (
        prune(
            Candidate("x", "wanda", update="obs", timestep=timestep), flux, calibration, Level(0.5), supplies=supplies
        )
        for timestep in ("log", "uniform")
    )
    assert any(not torch.equal(log.masks[name].bits, uniform.masks[name].bits) for name in log.masks)
    assert not torch.equal(log.updates[name].values, uniform.updates[name].values)


def test_inverse_hessians_are_those_of_the_layers(flux, calibration, supplies):
    layer = flux.layers[0].name
    hessian = collect_hessians(flux, [layer], like=calibration)[layer]
    found = supplies.inverse_hessian("uniform")(layer)
    torch.testing.assert_close(found, inverse_diagonal(hessian), rtol=1e-4, atol=0)


def test_one_layer_that_sees_only_zeros_is_pruned_by_magnitude_and_does_not_stop_the_rest(tiny_flux):
    model = load_model(tiny_flux, device="cpu")
    name = model.layers[0].name
    model.transformer.get_submodule(name).register_forward_pre_hook(lambda module, args: (torch.zeros_like(args[0]),))
    calibration = calibrate(model, samples=8)
    done = prune(Candidate("x", "obs", "layer", update="obs", exchange=True), model, calibration, Level(0.5))
    size = model.weight(name).square().flatten()
    expected = torch.ones(len(size), dtype=torch.bool)
    expected[size.argsort(stable=True)[: len(size) // 2]] = False
    assert torch.equal(done.masks[name].unpack().flatten(), expected)
    assert set(done.updates) == set(done.masks) - {name}


def test_a_hessian_that_is_not_finite_is_refused_by_its_layer(flux, calibration, monkeypatch):
    hessians = {layer.name: torch.eye(layer.shape[1]) for layer in flux.layers}
    hessians[flux.layers[1].name] = hessians[flux.layers[1].name] * float("nan")
    monkeypatch.setattr(
        "dit_prune_viz.pruning.supplies.collect_hessians",
        lambda model, names, **_: {name: hessians[name] for name in names},
    )
    with pytest.raises(UserError, match=f"Layer {flux.layers[1].name}: The Hessian holds NaN"):
        Supplies(flux, calibration).inverse_hessian("uniform")(flux.layers[0].name)


def test_sensitivity_changes_the_allocation_and_keeps_the_budget(flux, calibration, supplies):
    plain, weighed = (
        prune(Candidate("x", "wanda", "layer", "damage-aware", sensitivity=on), flux, calibration, Level(0.5))
        for on in (False, True)
    )
    assert plain.report.removed == weighed.report.removed
    assert [layer.removed for layer in plain.report.layers] != [layer.removed for layer in weighed.report.layers]


def test_updated_weights_are_drawn_with(tiny_flux, flux, calibration, supplies):
    state = prune(Candidate("x", "wanda", update="obs"), flux, calibration, Level(0.7), supplies=supplies)
    requests = requests_for(flux, ("a cat", "two dogs"), 0, Request("", 0, 3))
    changed = load_model(tiny_flux, device="cpu", dtype="float32")
    for name, update in state.updates.items():
        changed.weight(name).copy_(update.dense(flux.weight(name)))
        if update.bias is not None:
            changed.transformer.get_submodule(name).bias.copy_(update.bias)
    expected, painted = paint(changed, requests), paint(flux, requests, masks=state.masks, updates=state.updates)
    for a, b in zip(expected, painted, strict=True):
        torch.testing.assert_close(a.latents, b.latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(painted[0].latents, paint(flux, requests, masks=state.masks)[0].latents, atol=1e-3)


@pytest.mark.parametrize("change", [{"method": "x"}, {"granularity": "x"}, {"allocation": "x"}, {"update": "x"}])
def test_what_does_not_exist_is_one_sentence(flux, calibration, supplies, change):
    with pytest.raises(UserError, match="There is no"):
        prune(Candidate("mine", **change), flux, calibration, Level(0.5), supplies=supplies)
