"""PixArt's shared adaLN projection and its text projection, prunable by request: from calibration to pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dit_prune_viz.calibration.batch_rows import split
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.recorded_inputs import record_inputs
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe

ADALN, TEXT = "adaln_single.linear", "caption_projection.linear_1"
SETTINGS = {"samples": 8, "steps": 2, "seed": 1, "prompts": ("a red bus",)}
REQUEST = Request("a cat", seed=3, steps=2)


@pytest.fixture(scope="module")
def model(tiny_pixart):
    return load_model(tiny_pixart, device="cpu", dtype="float32", also_prune=[ADALN, "caption_projection"])


@pytest.fixture(scope="module")
def statistics(model):
    return Statistics(model, calibrate(model, **SETTINGS))


@pytest.fixture(scope="module")
def seen(model, statistics):
    """Inputs of both layers, kept by hooks of the test's own: (tokens, d_in) of the rows that count."""
    inputs = record_inputs(model, statistics.calibration)
    kept = {ADALN: [], TEXT: []}
    for call in inputs.calls:
        raw = {}
        handles = [
            model.transformer.get_submodule(name).register_forward_pre_hook(
                lambda module, args, name=name, raw=raw: raw.update({name: args[0].detach().double()})
            )
            for name in kept
        ]
        with torch.no_grad():
            args, kwargs = split(call.arguments)
            model.transformer(*args, **kwargs)
        for handle in handles:
            handle.remove()
        for row in call.rows:
            kept[ADALN].append(raw[ADALN][row][None])
            kept[TEXT].append(raw[TEXT][row][call.arguments["encoder_attention_mask"][row].bool()])
    return {name: torch.cat(parts) for name, parts in kept.items()}


@pytest.fixture(autouse=True)
def dense(model):
    """Whatever a test does, the model is the same in every bit."""
    before = {name: value.clone() for name, value in model.transformer.state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in model.transformer.state_dict().items())
    assert not any("forward" in vars(module) for module in model.transformer.modules())


@pytest.mark.parametrize("name", [ADALN, TEXT])
def test_statistics_are_of_what_the_layer_reads(model, statistics, seen, name):
    calibration, tokens = statistics.calibration, seen[name]
    assert int(calibration.tokens[name].sum()) == len(tokens)
    torch.testing.assert_close(calibration.norm(name), tokens.square().sum(0).sqrt().float())
    hessian = collect_hessians(model, [name], like=calibration, inputs=statistics.inputs)[name]
    expected = (tokens.T @ tokens).float()
    scale = expected.diagonal().mean() / hessian.diagonal().mean()
    torch.testing.assert_close(hessian * scale, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_other_layers_are_calibrated_as_without_them(model, statistics):
    usual = model.also_pruning(())
    calibration = calibrate(usual, **SETTINGS)
    assert usual.layers == tuple(layer for layer in model.layers if not layer.by_request)
    for layer in usual.layers:
        for sums in ("sum_squares", "sums", "tokens"):
            mine = getattr(statistics.calibration, sums)[layer.name]
            assert torch.equal(mine, getattr(calibration, sums)[layer.name]), layer.name


def test_cag_prunes_exactly_and_pictures_are_those_of_masked_weights(model, statistics):
    pruned = prune(model, find_recipe("dit-pruning"), sparsity=0.5, statistics=statistics)
    counts = {layer.name: int((~pruned.masks[layer.name]).sum()) for layer in model.layers}
    assert counts[ADALN] == 192 * 32 // 2  # 6 · 32 rows, of 32 inputs each: the same by row and by layer
    assert counts[TEXT] == 32 * 32 // 2
    assert sum(counts.values()) == pruned.report.removed
    image, latents = generate(model, REQUEST, pruned=pruned)
    _, before = generate(model, REQUEST)
    usual = prune(model.also_pruning(()), find_recipe("dit-pruning"), sparsity=0.5, statistics=None)
    assert set(pruned.masks) - set(usual.masks) == {ADALN, TEXT, "caption_projection.linear_2"}
    own = {name: model.transformer.get_submodule(name).weight.data for name in pruned.masks}
    try:
        for name, mask in pruned.masks.items():
            model.transformer.get_submodule(name).weight.data = own[name] * mask
        expected, wanted = generate(model, REQUEST)
    finally:
        for name, weight in own.items():
            model.transformer.get_submodule(name).weight.data = weight
    assert torch.equal(latents, wanted)
    assert image.tobytes() == expected.tobytes()
    assert not torch.equal(latents, before)


def output_error(model, pruned, name: str, tokens: torch.Tensor) -> float:
    layer, weight, bias = pruned.layers[name], model.weight(name), model.transformer.get_submodule(name).bias
    lost = tokens @ (layer.dense(weight) - weight).double().T
    return float((lost if layer.bias is None else lost + (layer.bias - bias)).square().sum())


@pytest.mark.parametrize("changes", [{"search": ("swap",)}, {"update": "least-squares"}, {"update": "obs"}])
@pytest.mark.parametrize("sequential", [False, True])
def test_searches_and_updates_lessen_their_error(model, statistics, seen, changes, sequential):
    recipe = Recipe(granularity="row", sparsity=0.6)
    plain = prune(model, recipe, statistics=statistics)
    better = prune(model, replace(recipe, sequential=sequential, **changes), statistics=statistics)
    for name in (ADALN, TEXT):
        assert output_error(model, better, name, seen[name]) < 0.9 * output_error(model, plain, name, seen[name])
    assert better.report.removed == plain.report.removed


@pytest.mark.parametrize("changes", [{"search": ("distil:3",)}, {"update": "tuned:3"}, {"update": "mean"}])
def test_training_and_moved_biases_reach_them(model, statistics, changes):
    pruned = prune(model, Recipe(granularity="row", sparsity=0.6, **changes), statistics=statistics)
    layer = pruned.layers[ADALN]
    assert (layer.bias is not None) == bool(changes.get("update"))
    assert (layer.values is not None) == (changes.get("update") == "tuned:3")
    assert torch.isfinite(generate(model, REQUEST, pruned=pruned)[1]).all()
