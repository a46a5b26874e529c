"""Recipes that round weights: what they make of a model, alone and after pruning, and that it stays small."""

from __future__ import annotations

import pytest
import torch

import dit_prune_viz as dpv
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.rounding import round_to_nearest
from dit_prune_viz.methods import registry
from dit_prune_viz.pruning.prune import finish_layers, prune, rank
from dit_prune_viz.pruning.recipe import Recipe


@pytest.fixture(scope="module")
def statistics(flux):
    return Statistics(flux, calibrate(flux, samples=8, prompts=("the moon", "a cup of tea")))


@pytest.fixture
def forwards(flux):
    """How often the transformer runs."""
    runs = []
    handle = flux.transformer.register_forward_pre_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


@pytest.mark.parametrize(("name", "bits"), [("int8", 8), ("int4", 4)])
def test_a_dense_model_is_rounded_and_nothing_else(flux, statistics, forwards, name, bits):
    before = {key: tensor.clone() for key, tensor in flux.transformer.state_dict().items()}
    pruned = prune(flux, name, statistics=statistics)
    assert pruned.report.removed == pruned.report.damage == pruned.recipe.sparsity == 0
    assert not forwards  # weights alone decide
    first = flux.layers[0]
    linear = flux.transformer.get_submodule(first.name)
    inputs = torch.randn(3, first.shape[1], generator=torch.Generator().manual_seed(0))
    for layer, made in pruned.layers.items():
        expected = round_to_nearest(flux.weight(layer), bits=bits, group=64)
        assert torch.equal(made.dense(flux.weight(layer)), expected.values())
        assert made.bias is None
    with torch.no_grad(), pruned:
        rounded = round_to_nearest(linear.weight, bits=bits, group=64).values()
        torch.testing.assert_close(linear(inputs), inputs @ rounded.T + linear.bias)
    assert all(torch.equal(before[key], tensor) for key, tensor in flux.transformer.state_dict().items())


def test_what_a_rounded_model_takes_in_memory_is_a_byte_a_weight(flux, statistics):
    pruned = prune(flux, "int8", statistics=statistics)
    codes = flux.prunable_parameters
    scales = sum(2 * rows * -(-columns // 64) for rows, columns in (layer.shape for layer in flux.layers))
    masks = sum(layer.mask.bits.nbytes for layer in pruned.layers.values())
    assert pruned.nbytes == codes + scales + masks


def test_pruning_then_rounding_keeps_the_masks(flux, statistics):
    bare = prune(flux, "dit-pruning", sparsity=0.7, statistics=statistics)
    rounded = prune(flux, "dit-pruning+int8", sparsity=0.7, statistics=statistics)
    for name, layer in rounded.layers.items():
        mask = bare.layers[name].mask
        assert layer.mask.digest == mask.digest
        expected = round_to_nearest(flux.weight(name) * mask.unpack(), bits=8, group=128)
        assert torch.equal(layer.dense(flux.weight(name)), expected.values())  # zeros change no scale
        assert layer.rounded.codes.numel() == mask.kept
    assert rounded.report == bare.report


@pytest.mark.parametrize("search", ["swap", "distil:2"])
def test_searches_go_on_as_without_an_update(flux, statistics, search):
    """Rounding leaves biases alone, so no search may count on them."""
    searched = prune(flux, Recipe(search=search), statistics=statistics)
    rounded = prune(flux, Recipe(search=search, update="round:4,row"), statistics=statistics)
    for name, layer in rounded.layers.items():
        assert layer.mask.digest == searched.layers[name].mask.digest
        expected = round_to_nearest(flux.weight(name), bits=4, mask=layer.mask)
        assert torch.equal(layer.values, expected.kept())
        assert layer.bias is None


def test_rounded_layers_come_back_from_disk_as_codes(flux, statistics, tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", 0.0)
    recipe = Recipe(search="swap", update="round:4,32")
    kept = Statistics(flux, statistics.calibration, disk=DiskCache(tmp_path))
    ranked = rank(recipe, kept)
    made = finish_layers(ranked.plan, ranked.packed_masks, kept)
    monkeypatch.setattr("dit_prune_viz.pruning.prune.solve_layers", None)  # nothing may be solved again
    found = finish_layers(ranked.plan, ranked.packed_masks, kept)
    for name, layer in found.items():
        assert (layer.rounded.bits, layer.rounded.group) == (4, min(32, layer.mask.shape[1]))
        assert torch.equal(layer.rounded.codes, made[name].rounded.codes)
        assert torch.equal(layer.values, made[name].values)
        assert layer.values.dtype == flux.weight(name).dtype


def test_a_recipe_that_prunes_nothing_has_no_other_sparsity():
    recipe = Recipe("none", sparsity=0.7, update="round:4,128")
    assert (recipe.sparsity, recipe.fixed, recipe.takes_patterns) == (0, True, False)
    assert recipe.at(0.5) == recipe == Recipe.from_json(recipe.to_json())
    assert Recipe("wanda", "2:4").fixed
    assert not Recipe("wanda").fixed
    with pytest.raises(UserError, match="means nothing"):
        recipe.at("2:4")
    with pytest.raises(UserError, match="keeps all weights"):
        Recipe("none", "2:4")


@pytest.mark.parametrize("update", ["round:5", "round:8,63", "round:8,0", "round:4,64,1"])
def test_grids_that_there_are_not(update):
    with pytest.raises(UserError):
        Recipe(update=update)


def test_an_update_of_ones_own_that_sees_weights_only(flux, statistics, forwards, monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", {kind: dict(known) for kind, known in registry._METHODS.items()})

    @dpv.register
    class Halved(dpv.Update):
        """Every kept weight is halved."""

        def new_weights(self, weight, mask):
            return weight / 2

    pruned = prune(flux, Recipe("magnitude", update="halved"), statistics=statistics)
    for name, layer in pruned.layers.items():
        assert torch.equal(layer.dense(flux.weight(name)), flux.weight(name) / 2 * layer.mask.unpack())
        assert layer.bias is None
    assert not forwards
    Halved.new_weights = lambda self, weight, mask: weight[:1]
    with pytest.raises(UserError, match="must return finite weights"):
        prune(flux, Recipe("magnitude", update="halved", sparsity=0.4), statistics=statistics)
