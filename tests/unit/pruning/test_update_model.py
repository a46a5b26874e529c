"""Weight updates of a whole model: packages, sequence, biases, progress."""

from __future__ import annotations

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.packages import package_layers, peak_bytes
from dit_prune_viz.calibration.recorded_inputs import record_inputs, run_call
from dit_prune_viz.calibration.second_moments import collect_moments
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import UpdatedWeights
from dit_prune_viz.masks.running import pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.update_model import LAYERWISE, update_model


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=32, seed=1, steps=4)


@pytest.fixture(scope="module")
def masks(flux) -> dict[str, PackedMask]:
    return {
        layer.name: pack(keep_mask(flux.weight(layer.name).abs(), sparsity=0.6, granularity="row"))
        for layer in flux.layers
    }


@pytest.fixture(scope="module")
def inputs(flux, calibration):
    return record_inputs(flux, calibration)


@pytest.fixture(scope="module")
def dense_moments(flux, calibration, inputs):
    return collect_moments(flux, [layer.name for layer in flux.layers], like=calibration, inputs=inputs)


def layer_error(model, moments, update, name) -> float:
    """Squared error of a layer's output, bias included, on its dense inputs, in float64."""
    moments = moments[name]
    weight = model.weight(name).double()
    change = update.dense(weight) - weight
    shift = 0.0
    if update.bias is not None:
        shift = update.bias.double() - model.transformer.get_submodule(name).bias.double()
    hessian, total = moments.hessian.double(), moments.total.double()
    return float(((change @ hessian) * change).sum() + (2 * (change @ total) * shift + moments.tokens * shift**2).sum())


@pytest.mark.parametrize("method", LAYERWISE)
def test_every_layer_of_a_model_gets_better(flux, calibration, inputs, dense_moments, masks, method):
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    updates = update_model(flux, masks, calibration, method=method, inputs=inputs)
    assert set(updates) == set(masks)
    for name, update in updates.items():
        assert torch.equal(update.mask.bits, masks[name].bits)
        alone = UpdatedWeights(flux.weight(name)[masks[name].unpack()], masks[name])
        assert layer_error(flux, dense_moments, update, name) < layer_error(flux, dense_moments, alone, name)
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())


def test_moving_biases_keeps_the_mean_and_lowers_the_error(flux, calibration, inputs, dense_moments, masks):
    name = "transformer_blocks.1.ff.net.2"
    one = {name: masks[name]}
    moved = update_model(flux, one, calibration, inputs=inputs)[name]
    still = update_model(flux, one, calibration, inputs=inputs, biases=False)[name]
    assert still.bias is None
    assert layer_error(flux, dense_moments, moved, name) < layer_error(flux, dense_moments, still, name)
    mean = dense_moments[name].total / dense_moments[name].tokens
    dense = flux.weight(name) @ mean + flux.transformer.get_submodule(name).bias
    torch.testing.assert_close(moved.dense(flux.weight(name)) @ mean + moved.bias, dense, rtol=1e-4, atol=1e-5)


def test_mean_moves_biases_and_no_weight(flux, calibration, inputs, dense_moments, masks):
    for name, update in update_model(flux, masks, calibration, inputs=inputs, method="mean").items():
        kept = flux.weight(name) * masks[name].unpack()
        assert update.values is None
        assert torch.equal(update.dense(flux.weight(name)), kept)
        mean = dense_moments[name].total / dense_moments[name].tokens
        lost = (flux.weight(name) - kept) @ mean
        torch.testing.assert_close(update.bias, flux.transformer.get_submodule(name).bias + lost, rtol=1e-4, atol=1e-5)
    assert update_model(flux, masks, calibration, inputs=inputs, method="mean", biases=False) == {}


def test_packages_do_not_change_the_result(flux, calibration, inputs, masks):
    some = {layer.name: masks[layer.name] for layer in flux.layers[::6]}
    together = update_model(flux, some, calibration, inputs=inputs)
    one_by_one = update_model(flux, some, calibration, inputs=inputs, package_bytes=1)
    for name, update in together.items():
        torch.testing.assert_close(update.values, one_by_one[name].values, rtol=1e-4, atol=1e-5)


def test_sequential_sees_pruned_inputs_and_lowers_the_models_error(flux, calibration, inputs, masks):
    def model_error(updates) -> float:
        with torch.no_grad():
            dense = [output for call in inputs.calls for output in run_call(flux, call)]
            with pruned(flux, masks, updates=updates):
                sparse = [output for call in inputs.calls for output in run_call(flux, call)]
        return float(sum((one - two).square().sum() for one, two in zip(sparse, dense, strict=True)))

    at_once = update_model(flux, masks, calibration, inputs=inputs)
    in_order = update_model(flux, masks, calibration, inputs=inputs, sequential=True)
    first, last = flux.layers[0].name, flux.layers[-1].name
    torch.testing.assert_close(at_once[first].values, in_order[first].values)
    assert not torch.allclose(at_once[last].values, in_order[last].values, rtol=1e-3)
    assert model_error(in_order) < model_error(at_once) < model_error({})


def test_a_layer_that_sees_only_zeros_is_left_to_its_mask(tiny_flux, calibration, masks):
    model = load_model(tiny_flux, device="cpu")
    names = [layer.name for layer in model.layers[:2]]
    module = model.transformer.get_submodule(names[0])
    module.register_forward_pre_hook(lambda module, args: (torch.zeros_like(args[0]),))
    updates = update_model(model, {name: masks[name] for name in names}, calibration)
    assert list(updates) == names[1:]


def test_inputs_that_never_change_need_the_bias_alone(tiny_flux, calibration, masks):
    model = load_model(tiny_flux, device="cpu")
    name = model.layers[0].name
    module = model.transformer.get_submodule(name)
    constant = torch.linspace(-1, 1, module.in_features)
    module.register_forward_pre_hook(lambda module, args: (constant.expand_as(args[0]),))
    update = update_model(model, {name: masks[name]}, calibration)[name]
    expected = module.weight @ constant + module.bias
    torch.testing.assert_close(update.dense(module.weight) @ constant + update.bias, expected, rtol=1e-4, atol=1e-5)


def test_timestep_weights_change_the_result(flux, calibration, inputs, masks):
    name = flux.layers[-1].name
    one = {name: masks[name]}
    found = [update_model(flux, one, calibration, inputs=inputs, timestep=scheme) for scheme in ("uniform", "log")]
    assert not torch.equal(found[0][name].values, found[1][name].values)


def test_progress_counts_to_its_total_and_cancels(flux, calibration, inputs, masks):
    seen = []
    update_model(flux, masks, calibration, inputs=inputs, sequential=True, progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total, _ in seen} == {len(seen)}

    def stop(done, total, what):
        if done == len(seen) - 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        update_model(flux, masks, calibration, inputs=inputs, sequential=True, progress=stop)
    assert not [name for name, module in flux.transformer.named_modules() if "forward" in vars(module)]
    assert not any(module._forward_pre_hooks for module in flux.transformer.modules())


def test_packages_are_bounded_and_in_order(flux):
    limit = 5 * 4 * 64**2
    packages = package_layers(flux.layers, limit)
    assert [layer for package in packages for layer in package] == list(flux.layers)
    for package in packages:
        assert len(package) == 1 or sum(4 * layer.shape[1] ** 2 for layer in package) <= limit
    assert peak_bytes(packages, 100) == 100 + peak_bytes(packages)
    assert peak_bytes(packages) < peak_bytes(package_layers(flux.layers, 1 << 30))
    by_block = package_layers(flux.layers, 1 << 30, sequential=True)
    assert [{layer.block for layer in package} for package in by_block] == [{0}, {1}, {2}, {3}]
    for bad in (0, -1, None, True, float("nan")):
        with pytest.raises(UserError, match="memory for a package"):
            package_layers(flux.layers, bad)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"method": "magic"}, "no weight update"), ({"timestep": "never"}, "no timestep weighting")],
)
def test_bad_settings(flux, calibration, masks, change, words):
    with pytest.raises(UserError, match=words):
        update_model(flux, masks, calibration, **change)


def test_masks_of_another_model(flux, calibration):
    with pytest.raises(UserError, match="no prunable layer"):
        update_model(flux, {"nowhere": pack(torch.ones(2, 2).bool())}, calibration)
    with pytest.raises(UserError, match="another model"):
        update_model(flux, {flux.layers[0].name: pack(torch.ones(2, 2).bool())}, calibration)
