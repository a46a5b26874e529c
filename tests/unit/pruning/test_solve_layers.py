"""Searches and updates of a whole model, layer by layer: packages, sequence, biases, progress."""

from __future__ import annotations

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.packages import package_layers, peak_bytes
from dit_prune_viz.calibration.recorded_inputs import run_call
from dit_prune_viz.calibration.second_moments import collect_moments
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.methods.search.swap import Swap
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.methods.update.least_squares import LeastSquares, least_squares_update
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.solve_layers import DAMPING, Solved, solve_layers, steps_of

LAYERWISE = [name for name, kind in methods_of(Update).items() if kind().layerwise and kind().needs_inputs]


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
def statistics(flux, calibration):
    return Statistics(flux, calibration)


@pytest.fixture(scope="module")
def dense_moments(flux, statistics):
    names = [layer.name for layer in flux.layers]
    return collect_moments(flux, names, like=statistics.calibration, inputs=statistics.inputs)


def solve(statistics, masks, update=None, **options) -> Solved:
    """Weights move by least squares unless something else is asked for."""
    plans = {name: LayerPlan(name, "row", 1.0, 0.6) for name in masks}
    return solve_layers(statistics, plans, masks, update=LeastSquares() if update is None else update, **options)


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


def test_which_updates_go_layer_by_layer():
    assert LAYERWISE == ["mean", "obs", "least-squares"]


@pytest.mark.parametrize("name", LAYERWISE)
def test_every_layer_of_a_model_gets_better(flux, statistics, dense_moments, masks, name):
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    solved = solve(statistics, masks, find_method(Update, name))
    assert list(solved.layers) == list(masks)
    assert set(solved.left.values()) <= {1.0}
    for name, update in solved.layers.items():
        assert torch.equal(update.mask.bits, masks[name].bits)
        alone = PrunedLayer(masks[name])
        assert layer_error(flux, dense_moments, update, name) < layer_error(flux, dense_moments, alone, name)
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())


def test_moving_biases_keeps_the_mean_and_lowers_the_error(flux, statistics, dense_moments, masks):
    name = "transformer_blocks.1.ff.net.2"
    moved = solve(statistics, {name: masks[name]}).layers[name]
    keep, hessian = masks[name].unpack(), dense_moments[name].hessian
    weights = least_squares_update(flux.weight(name), keep, hessian, damping=DAMPING)
    still = compact(weights, masks[name], torch.float32)
    assert layer_error(flux, dense_moments, moved, name) < layer_error(flux, dense_moments, still, name)
    mean = dense_moments[name].total / dense_moments[name].tokens
    dense = flux.weight(name) @ mean + flux.transformer.get_submodule(name).bias
    torch.testing.assert_close(moved.dense(flux.weight(name)) @ mean + moved.bias, dense, rtol=1e-4, atol=1e-5)


def test_mean_moves_biases_and_no_weight(flux, statistics, dense_moments, masks):
    for name, update in solve(statistics, masks, Mean()).layers.items():
        kept = flux.weight(name) * masks[name].unpack()
        assert update.values is None
        assert torch.equal(update.dense(flux.weight(name)), kept)
        mean = dense_moments[name].total / dense_moments[name].tokens
        lost = (flux.weight(name) - kept) @ mean
        torch.testing.assert_close(update.bias, flux.transformer.get_submodule(name).bias + lost, rtol=1e-4, atol=1e-5)


def test_packages_do_not_change_the_result(flux, statistics, masks):
    some = {layer.name: masks[layer.name] for layer in flux.layers[::6]}
    together = solve(statistics, some).layers
    one_by_one = solve(statistics, some, package_bytes=1).layers
    for name, update in together.items():
        torch.testing.assert_close(update.values, one_by_one[name].values, rtol=1e-4, atol=1e-5)


def test_sequential_sees_pruned_inputs_and_lowers_the_models_error(flux, statistics, masks):
    calls = statistics.inputs.calls

    def model_error(layers) -> float:
        with torch.no_grad():
            dense = [output for call in calls for output in run_call(flux, call)]
            with running_pruned(flux, layers):
                sparse = [output for call in calls for output in run_call(flux, call)]
        return float(sum((one - two).square().sum() for one, two in zip(sparse, dense, strict=True)))

    at_once = solve(statistics, masks).layers
    in_order = solve(statistics, masks, sequential=True).layers
    first, last = flux.layers[0].name, flux.layers[-1].name
    torch.testing.assert_close(at_once[first].values, in_order[first].values)
    assert not torch.allclose(at_once[last].values, in_order[last].values, rtol=1e-3)
    assert (
        model_error(in_order)
        < model_error(at_once)
        < model_error({name: PrunedLayer(mask) for name, mask in masks.items()})
    )


def test_a_layer_that_sees_only_zeros_is_left_to_its_mask(tiny_flux, calibration, masks):
    model = load_model(tiny_flux, device="cpu")
    names = [layer.name for layer in model.layers[:2]]
    module = model.transformer.get_submodule(names[0])
    module.register_forward_pre_hook(lambda module, args: (torch.zeros_like(args[0]),))
    found = solve(Statistics(model, calibration), {name: masks[name] for name in names}, searches=[Swap()])
    assert list(found.layers) == names
    assert found.layers[names[0]].mask is masks[names[0]]
    assert not found.layers[names[0]].updated
    assert found.left[names[0]] == 1
    assert found.layers[names[1]].updated


def test_inputs_that_never_change_need_the_bias_alone(tiny_flux, calibration, masks):
    model = load_model(tiny_flux, device="cpu")
    name = model.layers[0].name
    module = model.transformer.get_submodule(name)
    constant = torch.linspace(-1, 1, module.in_features)
    module.register_forward_pre_hook(lambda module, args: (constant.expand_as(args[0]),))
    update = solve(Statistics(model, calibration), {name: masks[name]}).layers[name]
    expected = module.weight @ constant + module.bias
    torch.testing.assert_close(update.dense(module.weight) @ constant + update.bias, expected, rtol=1e-4, atol=1e-5)


def test_timestep_weights_change_the_result(flux, statistics, masks):
    name = flux.layers[-1].name
    one = {name: masks[name]}
    found = [solve(statistics, one, timestep=scheme).layers for scheme in ("uniform", "log")]
    assert not torch.equal(found[0][name].values, found[1][name].values)


def test_a_layer_counts_by_what_its_second_moments_cost():
    """Their product with a weight takes d_in² · d_out multiplications, their inverse about d_in³."""
    shapes = {"wide": (320, 1280), "square": (320, 320), "tiny": (8, 8)}
    steps = steps_of([Layer(name, "blocks", 0, "other", shape) for name, shape in shapes.items()], 2000)
    wide, square = 320 * 1280**2 + 1280**3, 2 * 320**3
    assert steps["wide"] / steps["square"] == pytest.approx(wide / square, rel=0.05)
    assert steps["tiny"] == 1
    assert sum(steps.values()) == pytest.approx(2000, abs=2)


def test_progress_counts_to_its_total_and_cancels(flux, statistics, masks):
    seen = []
    assert statistics.inputs.samples == 32  # recorded before, so that only the collecting is counted
    solve(statistics, masks, sequential=True, progress=lambda *args: seen.append(args))
    counts = [done for done, _, _ in seen]
    assert counts == sorted(set(counts))
    assert {total for _, total, _ in seen} == {counts[-1]}

    def stop(done, total, what):
        if done > counts[-1] / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        solve(statistics, masks, sequential=True, progress=stop)
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


def test_bad_settings(statistics, masks):
    with pytest.raises(UserError, match="no update 'magic'"):
        find_method(Update, "magic")
    with pytest.raises(UserError, match="no timestep weighting"):
        solve(statistics, masks, timestep="never")


def test_masks_of_another_model(flux, statistics):
    with pytest.raises(UserError, match="no prunable layer"):
        solve(statistics, {"nowhere": pack(torch.ones(2, 2).bool())})
    with pytest.raises(UserError, match="another model"):
        solve(statistics, {flux.layers[0].name: pack(torch.ones(2, 2).bool())})
