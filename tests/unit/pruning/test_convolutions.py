"""A model whose feed-forward layers are convolutions, from calibration to pruned pictures and moved weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe

INVERTED, POINT = "transformer_blocks.0.ff.conv_inverted", "transformer_blocks.1.ff.conv_point"
REQUEST = Request("a cat", seed=3, steps=2)


@pytest.fixture(scope="module")
def watched(sana):
    """A calibration that watched every row of every call, and those rows, kept by hooks of the test's own."""
    kept = {name: [] for name in (INVERTED, POINT)}
    handles = [
        sana.transformer.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: kept[name].append(args[0].detach().double())
        )
        for name in kept
    ]
    calibration = calibrate(sana, samples=8, steps=2, prompts=sana.defaults.prompts[:1])
    for handle in handles:
        handle.remove()
    return calibration, kept


@pytest.fixture(scope="module")
def statistics(sana, watched):
    return Statistics(sana, watched[0])


@pytest.fixture(autouse=True)
def dense(sana):
    """Whatever a test does, the model is the same in every bit."""
    before = {name: value.clone() for name, value in sana.transformer.state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in sana.transformer.state_dict().items())
    assert not any("forward" in vars(module) for module in sana.transformer.modules())


def channels(inputs: list[torch.Tensor]) -> torch.Tensor:
    """(tokens, channels) of inputs (batch, channels, height, width), position by position."""
    return torch.cat(
        [
            torch.stack([image[:, y, x] for image in call for y in range(call.shape[2]) for x in range(call.shape[3])])
            for call in inputs
        ]
    )


@pytest.mark.parametrize("name", [INVERTED, POINT])
def test_statistics_are_those_of_the_convolutions_channels(sana, statistics, watched, name):
    calibration, kept = watched
    tokens = channels(kept[name][-2:])  # calls before the two steps look for the steps and for padding
    assert int(calibration.tokens[name].sum()) == len(tokens)
    torch.testing.assert_close(calibration.norm(name), tokens.square().sum(0).sqrt().float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(calibration.mean(name), tokens.mean(0).float(), rtol=1e-4, atol=1e-6)
    hessian = collect_hessians(sana, [name], like=calibration, inputs=statistics.inputs)[name]
    expected = (tokens.T @ tokens).float()
    scale = expected.diagonal().mean() / hessian.diagonal().mean()  # weights of the timesteps have a scale of their own
    torch.testing.assert_close(hessian * scale, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_cag_prunes_exactly_and_pictures_are_those_of_masked_weights(sana, statistics):
    pruned = prune(sana, find_recipe("dit-pruning"), sparsity=0.5, statistics=statistics)
    assert [layer.name for layer in sana.layers if layer.convolution] == [
        f"transformer_blocks.{block}.ff.{part}" for block in (0, 1) for part in ("conv_inverted", "conv_point")
    ]
    for layer in sana.layers:
        rows, columns = layer.shape
        granularity = pruned.plan.layer(layer.name).granularity
        gone = rows * (columns // 2) if granularity == "row" else layer.weights // 2
        assert int((~pruned.masks[layer.name]).sum()) == gone
    image, latents = generate(sana, REQUEST, pruned=pruned)
    _, before = generate(sana, REQUEST)
    own = {name: sana.transformer.get_submodule(name).weight.data for name in pruned.masks}
    try:
        for name, mask in pruned.masks.items():
            module = sana.transformer.get_submodule(name)
            module.weight.data = own[name] * mask.reshape(own[name].shape)
        expected, wanted = generate(sana, REQUEST)
    finally:
        for name, weight in own.items():
            sana.transformer.get_submodule(name).weight.data = weight
    assert torch.equal(latents, wanted)
    assert image.tobytes() == expected.tobytes()
    assert not torch.equal(latents, before)


def output_error(tokens: torch.Tensor, weight: torch.Tensor, new: torch.Tensor) -> float:
    return float((tokens @ (new - weight).double().T).square().sum())


@pytest.mark.parametrize("changes", [{"search": ("swap",)}, {"update": "least-squares"}, {"update": "obs"}])
def test_searches_and_updates_lessen_a_convolutions_error(sana, statistics, watched, changes):
    recipe = Recipe(granularity="row", sparsity=0.6)
    plain = prune(sana, recipe, statistics=statistics)
    better = prune(sana, replace(recipe, **changes), statistics=statistics)
    tokens, weight = channels(watched[1][POINT][1:]), sana.weight(POINT)
    before = output_error(tokens, weight, plain.layers[POINT].dense(weight))
    after = output_error(tokens, weight, better.layers[POINT].dense(weight))
    assert after < 0.9 * before
    assert better.report.removed == plain.report.removed


@pytest.mark.parametrize("changes", [{"search": ("distil:3",)}, {"update": "tuned:3"}, {"update": "mean"}])
def test_training_and_moved_biases_reach_convolutions(sana, statistics, changes):
    recipe = Recipe(granularity="row", sparsity=0.6, **changes)
    pruned = prune(sana, recipe, statistics=statistics)
    layer, module = pruned.layers[INVERTED], sana.transformer.get_submodule(INVERTED)
    assert (layer.bias is not None) == bool(recipe.update)
    assert (layer.values is not None) == (recipe.update == "tuned:3")
    if recipe.update:
        mean, weight = statistics.mean(INVERTED), sana.weight(INVERTED)
        kept, dense = layer.dense(weight) @ mean + layer.bias, weight @ mean + module.bias
        torch.testing.assert_close(kept, dense, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(generate(sana, REQUEST, pruned=pruned)[1]).all()


def test_measurements_of_a_model_with_convolutions_have_a_name_of_their_own(sana, flux):
    assert flux.signature[0] == flux.identity
    assert sana.signature[0] != sana.identity
