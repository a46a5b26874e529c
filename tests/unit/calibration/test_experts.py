"""Routed experts: their tokens are counted as what they are, against naive float64 sums over what the hooks saw."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import nn

from dit_prune_viz.calibration.batch_rows import select_rows
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.calibration.recorded_inputs import Call, RecordedInputs, record_draw, record_inputs, run_call
from dit_prune_viz.calibration.second_moments import collect_moments
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.experiments.convergence import _nested
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.solve_layers import solve_layers

EXPERT = "transformer_blocks.1.ff.experts.2.w1"
SHARED = "transformer_blocks.1.ff.shared_experts.w1"
WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0, 1.5, 0.1, 1.0, 0.7, 4.0)


@pytest.fixture(scope="module")
def model(tiny_flux):
    """The tiny FLUX with HiDream's mixture of four experts, two of them for each token, in its first two blocks."""
    loaded = load_model(tiny_flux, device="cpu", dtype="float32")
    torch.manual_seed(0)
    for block in loaded.transformer.transformer_blocks:
        block.ff = MOEFeedForwardSwiGLU(64, 96, num_routed_experts=4, num_activated_experts=2).eval()
    loaded.transformer.requires_grad_(False)
    return replace(loaded, layers=list_layers(loaded.transformer))


@pytest.fixture(scope="module")
def calibration(model):
    return calibrate(model, samples=12, seed=1, steps=4)


@pytest.fixture(scope="module")
def inputs(model, calibration):
    return record_inputs(model, calibration)


@contextmanager
def seen(model, names):
    """Name -> the tokens (n, d_in) float64 of every call of the layer."""
    found = defaultdict(list)
    handles = [
        model.transformer.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: found[name].append(args[0].detach().double().reshape(-1, args[0].shape[-1]))
        )
        for name in names
    ]
    yield found
    for handle in handles:
        handle.remove()


def joined(inputs: RecordedInputs, count: int) -> Call:
    """The first inputs as one call of that many rows."""
    calls = inputs.calls[:count]

    def cat(values):
        return torch.cat(values) if isinstance(values[0], torch.Tensor) and values[0].shape[:1] == (1,) else values[0]

    arguments = {key: cat([call.arguments[key] for call in calls]) for key in calls[0].arguments}
    return Call(arguments, count, tuple(range(count)), sum((call.bins for call in calls), ()))


def test_experts_are_found_by_structure(model):
    routed = {layer.name for layer in model.layers if layer.routed}
    assert routed == {
        f"transformer_blocks.{block}.ff.experts.{expert}.{part}"
        for block in range(2)
        for expert in range(4)
        for part in ("w1", "w2", "w3")
    }


@pytest.mark.parametrize(
    ("name", "outputs", "routed"),
    [("experts", 5, True), ("parts", 3, True), ("parts", 4, False), ("expert_heads", 4, True)],
)
def test_a_list_has_experts_if_it_says_so_or_has_a_router(name, outputs, routed):
    def block():
        part = nn.Module()
        part.router = nn.Linear(8, outputs)
        part.add_module(name, nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(3)))
        # Neither is a list of different modules, nor one without a Linear.
        part.net = nn.ModuleList([nn.GELU(), nn.Dropout(), nn.Linear(8, 8)])
        part.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(outputs))
        return part

    transformer = nn.Module()
    transformer.blocks = nn.ModuleList([block(), block()])
    assert {layer.routed for layer in list_layers(transformer) if f".{name}." in layer.name} == {routed}
    assert not any(layer.routed for layer in list_layers(transformer) if f".{name}." not in layer.name)


@pytest.mark.parametrize("tokens", [2, 10, 11])
def test_all_tokens_of_an_expert_are_taken_whatever_their_number(tokens):
    inputs = torch.randn(tokens, 4)
    assert torch.equal(select_rows(inputs, [1], 2, routed=True), inputs)
    assert torch.equal(select_rows(inputs[None], [1], 2, routed=True), inputs)
    batch = torch.randn(2, tokens, 4)
    assert torch.equal(select_rows(batch, [1], 2, routed=True), batch[1:])


@pytest.mark.parametrize("rows", [[0], [1, 2, 3]])
def test_sums_of_a_call_with_several_rows(model, inputs, rows):
    sums, call = Sums(model.layers, 1, model.device), joined(inputs, 4)
    names = [layer.name for layer in model.layers if layer.routed]
    watch = watch_inputs(model.transformer, model.layers, sums, lambda batch: (rows, 0))
    with torch.no_grad(), seen(model, [*names, SHARED]) as found, watch:
        run_call(model, call)
    counts = [len(torch.cat(found[name])) for name in names if found[name]]
    assert len(counts) == len(names)
    assert any(count % 4 for count in counts)
    assert any(count % 4 == 0 for count in counts)
    for name in names:
        tokens = torch.cat(found[name])
        assert int(sums.tokens[name][0]) == len(tokens)
        torch.testing.assert_close(sums.squares[name][0], tokens.square().sum(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(sums.totals[name][0], tokens.sum(0), rtol=1e-4, atol=1e-5)
    shared = torch.cat(found[SHARED]).reshape(4, -1, 64)[rows].reshape(-1, 64)
    assert int(sums.tokens[SHARED][0]) == len(shared)
    torch.testing.assert_close(sums.squares[SHARED][0], shared.square().sum(0), rtol=1e-5, atol=1e-6)


def test_recorded_inputs_stay_apart_so_that_it_is_known_whose_the_tokens_are(model, calibration, inputs):
    assert inputs.samples == len(inputs.calls) == 12
    asked = record_draw(model, calibration.draw, edges=calibration.edges, steps=4, seed=1, rows=4)
    assert max(call.batch for call in asked.calls) == 4


def test_second_moments_weigh_every_token_as_its_row(model, calibration, inputs):
    names = [EXPERT, SHARED]
    moments = collect_moments(model, names, like=calibration, weights=WEIGHTS, inputs=inputs)
    expected = {name: [torch.zeros(64, 64).double(), torch.zeros(64).double(), 0.0] for name in names}
    assert len({call.bins for call in inputs.calls}) > 1
    for call in inputs.calls:
        with torch.no_grad(), seen(model, names) as found:
            run_call(model, call)
        for name, tokens in ((name, one) for name, parts in found.items() for one in parts):
            alpha = WEIGHTS[call.bins[0]] / sum(WEIGHTS) * len(WEIGHTS)
            for place, part in enumerate((tokens.T @ tokens, tokens.sum(0), len(tokens))):
                expected[name][place] += alpha * part
    for name in names:
        scale = moments[name].tokens / expected[name][2]
        torch.testing.assert_close(moments[name].hessian.double(), scale * expected[name][0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(moments[name].total.double(), scale * expected[name][1], rtol=1e-4, atol=1e-3)
    # Both layers are weighed by the same α.
    assert moments[EXPERT].tokens / expected[EXPERT][2] == pytest.approx(moments[SHARED].tokens / expected[SHARED][2])


def masks_of(model, names):
    """Three of four weights go, at random."""
    generator = torch.Generator().manual_seed(3)
    return {name: pack(torch.rand(model.layer(name).shape, generator=generator) > 0.75) for name in names}


def test_experts_of_a_pruned_model_are_tied_to_their_own_inputs(model, calibration, inputs):
    first = [layer.name for layer in model.layers if layer.block < 2]
    layers = {name: PrunedLayer(mask) for name, mask in masks_of(model, first).items()}
    names = [EXPERT, SHARED]
    pruned = partial(running_pruned, model, layers)
    moments = collect_moments(model, names, like=calibration, inputs=inputs, altered=pruned)
    with torch.no_grad(), seen(model, names) as dense:
        for call in inputs.calls:
            run_call(model, call)
    with torch.no_grad(), pruned(), seen(model, names) as sparse:
        for call in inputs.calls:
            run_call(model, call)
    assert [len(one) for one in dense[EXPERT]] != [len(one) for one in sparse[EXPERT]]  # the routing has changed
    tokens = torch.cat(sparse[EXPERT])
    assert moments[EXPERT].tokens == len(tokens)
    assert moments[EXPERT].cross is None
    assert moments[EXPERT].reference is None
    torch.testing.assert_close(moments[EXPERT].hessian.double(), tokens.T @ tokens, rtol=1e-4, atol=1e-2)
    before, after = torch.cat(dense[SHARED]), torch.cat(sparse[SHARED])
    torch.testing.assert_close(moments[SHARED].cross.double(), before.T @ after, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("method", ["least-squares", "obs", "mean"])
def test_a_sequential_update_survives_a_routing_that_changes(model, calibration, method):
    names = [layer.name for layer in model.layers if layer.block < 2]
    statistics, plans = Statistics(model, calibration), {name: LayerPlan(name, "layer", 1.0, 0.75) for name in names}
    update = find_method(Update, method)
    layers = solve_layers(statistics, plans, masks_of(model, names), update=update, sequential=True).layers
    assert layers[EXPERT].bias is None
    assert layers[EXPERT].updated == (method != "mean")  # experts have no biases
    assert all(layer.values is None or bool(layer.values.isfinite().all()) for layer in layers.values())


def test_smaller_calibrations_get_the_tokens_of_their_own_inputs(model, calibration, inputs):
    sizes = [5, 12]
    small, large = _nested(model, inputs, sizes, 0, None)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    chosen = [place for place in range(12) if int(order[place]) < 5]
    for found, places in ((small, chosen), (large, range(12))):
        squares = torch.zeros(len(WEIGHTS), 64, dtype=torch.float64)
        tokens = torch.zeros(len(WEIGHTS), dtype=torch.int64)
        for place in places:
            with torch.no_grad(), seen(model, [EXPERT]) as parts:
                run_call(model, inputs.calls[place])
            for one in parts[EXPERT]:
                squares[inputs.calls[place].bins[0]] += one.square().sum(0)
                tokens[inputs.calls[place].bins[0]] += len(one)
        assert torch.equal(found.tokens[EXPERT], tokens)
        torch.testing.assert_close(found.sum_squares[EXPERT], squares, rtol=1e-5, atol=1e-6)
