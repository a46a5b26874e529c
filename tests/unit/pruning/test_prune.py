"""Recipes against what they stand for, on the tiny FLUX."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.damped_inverse import damped, inverse_diagonal
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.requests import requests_for
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.damage import damage_second_moment
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=16, prompts=("the moon", "a cup of tea"))


@pytest.fixture(scope="module")
def statistics(flux, calibration):
    return Statistics(flux, calibration)


@pytest.mark.parametrize("named", NAMED_RECIPES.values(), ids=list(NAMED_RECIPES))
def test_every_named_recipe_prunes_what_it_is_asked_to(flux, statistics, named):
    recipe = replace(named.recipe, search=["distil:3" if "distil" in spec else spec for spec in named.recipe.search])
    pruned = prune(flux, recipe, sparsity=0.6, statistics=statistics)
    assert list(pruned.layers) == list(pruned.masks) == [layer.name for layer in flux.layers]
    slack = sum(layer.shape[0] for layer in flux.layers) if recipe.allocation == "uniform" else 0
    target = 0 if recipe.fixed else int(0.6 * flux.prunable_parameters)
    assert target - slack <= pruned.report.removed <= target
    assert pruned.report.removed == sum(int((~mask).sum()) for mask in pruned.masks.values())
    assert any(layer.updated for layer in pruned.layers.values()) == bool(recipe.update)
    for name, layer in pruned.layers.items():
        assert not layer.dense(flux.weight(name))[~pruned.masks[name]].any()


def test_a_pruned_model_runs_inside_with_and_is_dense_again(flux, statistics):
    pruned = prune(flux, "mean", statistics=statistics)
    name = flux.layers[0].name
    inputs = torch.randn(3, flux.layers[0].shape[1], generator=torch.Generator().manual_seed(0))
    linear = flux.transformer.get_submodule(name)
    with torch.no_grad():
        dense = linear(inputs)
        expected = inputs @ (linear.weight * pruned.masks[name]).T + pruned.layers[name].bias
        with pruned as same:
            assert same is pruned
            torch.testing.assert_close(linear(inputs), expected)
            with pytest.raises(UserError, match="running pruned already"), pruned:
                pytest.fail("the block must not be entered")
            torch.testing.assert_close(linear(inputs), expected)
        assert torch.equal(linear(inputs), dense)
        with pytest.raises(KeyboardInterrupt), pruned:
            raise KeyboardInterrupt
        assert torch.equal(linear(inputs), dense)
    assert list(pruned.masks) == list(pruned.packed_masks) == list(pruned.layers)
    assert torch.equal(pruned.masks[name], pruned.packed_masks[name].unpack())
    assert pruned.nbytes == sum(layer.nbytes for layer in pruned.layers.values())


def test_what_a_method_is_called_and_where_it_comes_from(flux, statistics, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(Recipe("wanda", sparsity=0.3).to_json())
    digests = {
        tuple(layer.mask.digest for layer in prune(flux, recipe, sparsity=0.3, statistics=statistics).layers.values())
        for recipe in ("wanda", Recipe("wanda"), file, str(file))
    }
    assert len(digests) == 1
    assert prune(flux, file, statistics=statistics).report.target == 0.3
    assert prune(flux, "stw:1.5,1", statistics=statistics).recipe == Recipe("stw:1.5,1")


def test_it_calibrates_by_itself_and_once(tiny_flux):
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    recipe = Recipe("wanda", calibration=CalibrationSettings(samples=4, steps=2, seed=3))
    found = prune(model, recipe)
    told = []
    prune(model, replace(recipe, sparsity=0.7), progress=lambda *args: told.append(args[2]))
    assert not any("alibrat" in what for what in told)
    expected = prune(model, recipe, statistics=Statistics(model, calibrate(model, samples=4, steps=2, seed=3)))
    assert all(torch.equal(mask, expected.masks[name]) for name, mask in found.masks.items())


def test_the_baselines_are_their_formulas(flux, calibration, statistics):
    formulas = {
        "magnitude": (lambda w, x: w.abs(), "layer"),
        "wanda": (lambda w, x: w.abs() * x, "row"),
        "stw": (lambda w, x: w.square() * x, "layer"),
    }
    for name, (formula, granularity) in formulas.items():
        masks = prune(flux, name, sparsity=0.5, statistics=statistics).masks
        for layer in flux.layers:
            scores = formula(flux.weight(layer.name), calibration.norm(layer.name))
            expected = keep_mask(scores, sparsity=0.5, granularity=granularity)
            assert torch.equal(masks[layer.name], expected)


def test_a_pattern_keeps_two_of_four(flux, statistics):
    for mask in prune(flux, "dit-pruning", sparsity="2:4", statistics=statistics).masks.values():
        assert (mask.view(-1, 4).sum(1) == 2).all()
    with pytest.raises(UserError, match="1:3 does not fit layer"):
        prune(flux, sparsity="1:3", statistics=statistics)


def test_swaps_keep_patterns_and_counts_and_lower_the_error(flux, calibration, statistics):
    found = prune(flux, "swap-mask", sparsity="2:4", statistics=statistics)
    assert not any(layer.updated for layer in found.layers.values())
    plain = prune(flux, Recipe("stw:2,1"), sparsity="2:4", statistics=statistics)
    hessians = collect_hessians(flux, list(found.masks), like=calibration, inputs=statistics.inputs)
    for name, mask in found.masks.items():
        assert (mask.view(-1, 4).sum(1) == 2).all()
        errors = [
            damage_second_moment(flux.weight(name), damped(hessians[name], 0.1), masks)
            for masks in (mask, plain.masks[name])
        ]
        assert errors[0] <= errors[1] * 1.0001
    assert any(not torch.equal(mask, plain.masks[name]) for name, mask in found.masks.items())


def test_a_rehearsal_moves_the_budget_to_where_errors_cancel(flux, statistics):
    recipe = NAMED_RECIPES["swap"].recipe
    swapping = prune(flux, recipe, sparsity=0.6, statistics=statistics)
    without = prune(flux, replace(recipe, search=()), sparsity=0.6, statistics=statistics)
    assert swapping.report.removed == without.report.removed == int(0.6 * flux.prunable_parameters)
    assert [layer.removed for layer in swapping.report.layers] != [layer.removed for layer in without.report.layers]
    again = prune(flux, recipe, sparsity=0.6, statistics=statistics)
    assert all(torch.equal(mask, again.masks[name]) for name, mask in swapping.masks.items())


def test_timesteps_weigh_on_saliency_and_update(flux, calibration, statistics):
    name = flux.layers[0].name
    weights = timestep_weights("log", calibration.edges)
    assert torch.equal(statistics.norm(name, "log"), calibration.norm(name, weights))
    log, uniform = (
        prune(flux, Recipe("wanda", update="obs", timestep=timestep), statistics=statistics)
        for timestep in ("log", "uniform")
    )
    assert any(not torch.equal(mask, uniform.masks[name]) for name, mask in log.masks.items())
    assert not torch.equal(log.layers[name].values, uniform.layers[name].values)


def test_inverse_hessians_are_those_of_the_layers(flux, calibration, statistics):
    layer = flux.layers[0].name
    hessian = collect_hessians(flux, [layer], like=calibration)[layer]
    found = statistics.inverse_hessian(layer)
    torch.testing.assert_close(found, inverse_diagonal(hessian), rtol=1e-4, atol=0)


def test_sensitivity_changes_the_allocation_and_keeps_the_budget(flux, statistics):
    plain, weighed = (
        prune(flux, Recipe("wanda", "layer", allocation="damage-aware", sensitivity=on), statistics=statistics)
        for on in (False, True)
    )
    assert plain.report.removed == weighed.report.removed
    assert [layer.removed for layer in plain.report.layers] != [layer.removed for layer in weighed.report.layers]


def test_updated_weights_are_drawn_with(tiny_flux, flux, statistics):
    layers = prune(flux, Recipe("wanda", update="obs", sparsity=0.7), statistics=statistics).layers
    requests = requests_for(flux, ("a cat", "two dogs"), 0, Request("", 0, 3))
    changed = load_model(tiny_flux, device="cpu", dtype="float32")
    for name, layer in layers.items():
        changed.weight(name).copy_(layer.dense(flux.weight(name)))
        if layer.bias is not None:
            changed.transformer.get_submodule(name).bias.copy_(layer.bias)
    expected, drawn = draw_batch(changed, requests), draw_batch(flux, requests, layers=layers)
    for a, b in zip(expected, drawn, strict=True):
        torch.testing.assert_close(a.latents, b.latents, rtol=1e-4, atol=1e-4)
    bare = {name: PrunedLayer(layer.mask) for name, layer in layers.items()}
    assert not torch.allclose(drawn[0].latents, draw_batch(flux, requests, layers=bare)[0].latents, atol=1e-3)
