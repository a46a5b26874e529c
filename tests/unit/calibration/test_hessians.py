"""Timestep weights, recorded inputs and Hessians against naive float64 sums over the same drawn inputs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.calibration import batch_rows
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.recorded_inputs import held_out_inputs, record_inputs, run_call
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.second_moments import collect_hessians, collect_moments
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.pipelines.model import load_model

NAMES = (
    "transformer_blocks.0.norm1.linear",
    "transformer_blocks.1.attn.to_q",
    "transformer_blocks.1.attn.to_k",
    "single_transformer_blocks.1.proj_out",
)
EDGES = tuple(index / 4 for index in range(5))


def hooks(model) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.transformer.modules())


def watched_inputs(model, calibration, name) -> list[tuple[torch.Tensor, int]]:
    """The naive reference: (tokens float64, bin) of each drawn row, by running the whole calibration again."""
    calls = []
    handle = model.transformer.get_submodule(name).register_forward_pre_hook(
        lambda module, args: calls.append(args[0].detach().double())
    )
    calibrate(model, samples=calibration.samples, seed=calibration.seed, steps=calibration.steps)
    handle.remove()
    calls = calls[2:]  # the probe: one prompt, two guidance halves
    times = model.pipeline.scheduler.timesteps / 1000
    bins = len(calibration.edges) - 1
    found = []
    for place, run in enumerate(sorted(calibration.draw.watched)):
        for step, halves in calibration.draw.watched[run].items():
            for half in halves:
                tokens = calls[2 * step + half][place].reshape(-1, calls[0].shape[-1])
                found.append((tokens, min(int(times[step] * bins), bins - 1)))
    return found


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=21, seed=5, steps=4)


@pytest.mark.parametrize("weights", [None, "log", "early", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_hessians_equal_the_naive_weighted_sums(flux, calibration, weights):
    found = collect_moments(flux, NAMES, like=calibration, weights=weights)
    scale = timestep_weights(weights or "uniform", calibration.edges)
    for name in NAMES:
        rows = watched_inputs(flux, calibration, name)
        assert len(rows) == 21
        expected = sum(scale[index] * tokens.T @ tokens for tokens, index in rows)
        total = sum(scale[index] * tokens.sum(0) for tokens, index in rows)
        torch.testing.assert_close(found[name].hessian.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
        torch.testing.assert_close(found[name].total.double(), total, rtol=1e-3, atol=1e-3)
        assert found[name].tokens == pytest.approx(sum(scale[index] * len(tokens) for tokens, index in rows), rel=1e-5)


def test_the_diagonal_is_what_calibration_summed(flux, calibration):
    names = [layer.name for layer in flux.layers]
    hessians = collect_hessians(flux, names, like=calibration)
    assert list(hessians) == names
    for name, hessian in hessians.items():
        assert hessian.dtype == torch.float32
        torch.testing.assert_close(hessian.diagonal().sqrt(), calibration.norm(name), rtol=1e-4, atol=1e-4)


def test_layers_with_the_same_input_share_one_matrix(flux, calibration):
    block = "transformer_blocks.1.attn."
    names = [block + part for part in ("to_q", "to_k", "to_v", "add_q_proj", "to_out.0")]
    q, k, v, context, out = (collect_hessians(flux, names, like=calibration)[name] for name in names)
    assert q is not context
    assert not torch.equal(q, out)
    found = collect_hessians(flux, names, like=calibration)
    assert found[names[0]] is found[names[1]] is found[names[2]]
    assert torch.equal(k, v)


def test_autocast_around_does_not_touch_the_products(flux, calibration):
    inputs = record_inputs(flux, calibration)
    name = NAMES[0]  # its input is an embedding's float32 output passed through an activation, the same under autocast
    rows = watched_inputs(flux, calibration, name)
    handle = flux.transformer.get_submodule(name).register_forward_pre_hook(
        lambda module, args: (torch.ones_like(args[0], dtype=torch.float32) * (1 + 2**-12),)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hessian = collect_hessians(flux, [name], like=calibration, inputs=inputs)[name]
    handle.remove()
    expected = len(rows) * (1 + 2**-12) ** 2  # bfloat16 would round this to len(rows)
    assert float(hessian[0, 1]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("family", ["flux", "sd3", "pixart", "dit"])
def test_replayed_inputs_are_the_drawn_ones(request, family):
    model = load_model(request.getfixturevalue(f"tiny_{family}"), device="cpu")
    calibration = calibrate(model, samples=14, steps=3, seed=2)
    before = hooks(model)
    inputs = record_inputs(model, calibration)
    assert hooks(model) == before
    assert inputs.samples == 14
    assert inputs.nbytes > 0
    found = collect_hessians(model, [layer.name for layer in model.layers], like=calibration, inputs=inputs)
    for layer in model.layers:
        torch.testing.assert_close(
            found[layer.name].diagonal().sqrt(), calibration.norm(layer.name), rtol=1e-3, atol=1e-4
        )
    outputs = [output for call in inputs.calls for output in run_call(model, call)]
    assert len(outputs) == 14
    if family == "flux":
        assert len(inputs.calls) == 1  # joined: sixteen rows fit into one call


def test_a_pruned_model_gives_later_layers_other_inputs(flux, calibration):
    first, last = NAMES[1], NAMES[3]
    sparse_layer = {first: PrunedLayer(pack(keep_mask(flux.weight(first).abs(), sparsity=0.7)))}
    inputs = record_inputs(flux, calibration)
    dense = collect_hessians(flux, [first, last], like=calibration, inputs=inputs)
    with flux.lock.hold(), running_pruned(flux, sparse_layer):
        sparse = collect_hessians(flux, [first, last], like=calibration, inputs=inputs)
    assert torch.equal(dense[first], sparse[first])
    assert not torch.allclose(dense[last], sparse[last], rtol=1e-4)
    both = collect_moments(
        flux, [first, last], like=calibration, inputs=inputs, altered=lambda: running_pruned(flux, sparse_layer)
    )
    torch.testing.assert_close(both[last].hessian, sparse[last])
    torch.testing.assert_close(both[first].cross, dense[first], rtol=1e-4, atol=1e-3)
    pairs = {False: [], True: []}
    for state in pairs:
        handle = flux.transformer.get_submodule(last).register_forward_pre_hook(
            lambda module, args, state=state: pairs[state].append(args[0].double().reshape(-1, args[0].shape[-1]))
        )
        with torch.no_grad(), flux.lock.hold(), running_pruned(flux, sparse_layer if state else {}):
            for call in inputs.calls:
                run_call(flux, call)
        handle.remove()
    before, after = torch.cat(pairs[False]), torch.cat(pairs[True])
    torch.testing.assert_close(both[last].cross.double(), before.T @ after, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both[last].reference.double(), before.sum(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both[last].total.double(), after.sum(0), rtol=1e-3, atol=1e-3)


def test_held_out_inputs_are_others(flux, calibration):
    held = held_out_inputs(flux, calibration, 5)
    again = held_out_inputs(flux, calibration, 5)
    assert held.samples == 6  # in pairs, with the prompt and without
    hidden = [call.arguments["hidden_states"] for call in held.calls]
    assert all(map(torch.equal, hidden, [call.arguments["hidden_states"] for call in again.calls]))
    seen = torch.cat([call.arguments["hidden_states"] for call in record_inputs(flux, calibration).calls])
    assert not (torch.cat(hidden)[:, None] == seen[None]).flatten(2).all(2).any()


def test_cancelling_leaves_no_hook_and_a_free_lock(flux, calibration):
    inputs = record_inputs(flux, calibration)

    def stop(*args):
        raise Cancelled

    for arguments in ({}, {"inputs": inputs}):
        with pytest.raises(Cancelled):
            collect_hessians(flux, NAMES, like=calibration, progress=stop, **arguments)
    assert hooks(flux) == 0
    assert flux.lock.free


def test_bad_input_is_one_sentence(flux, calibration):
    with pytest.raises(UserError, match="no prunable layer"):
        collect_hessians(flux, ["nowhere"], like=calibration)
    old = Calibration(1, 0, 0.0, (0.5,), (0.0, 1.0), {}, {})
    with pytest.raises(UserError, match="calibrate again"):
        record_inputs(flux, old)
    with pytest.raises(UserError, match="calibrate again"):
        held_out_inputs(flux, old, 2)
    with pytest.raises(UserError, match="held-out"):
        held_out_inputs(flux, calibration, 0)
    handle = flux.transformer.get_submodule(NAMES[0]).register_forward_pre_hook(
        lambda module, args: (torch.full_like(args[0], float("nan")),)
    )
    try:
        with pytest.raises(UserError, match="not finite"):
            collect_hessians(flux, NAMES[:1], like=calibration)
    finally:
        handle.remove()


def test_a_batch_is_told_from_a_length_that_looks_like_one():
    small = {0: torch.zeros(1, 5), "ids": torch.zeros(3, 2), "list": [torch.zeros(2)], "deep": {"x": torch.zeros(1)}}
    large = {
        0: torch.arange(15.0).reshape(3, 5),
        "ids": torch.ones(3, 2),
        "list": [torch.full((2,), float(index)) for index in range(3)],
        "deep": {"x": torch.arange(3.0)},
    }
    paths = batch_rows.batched(batch_rows.lengths(small), 1, batch_rows.lengths(large), 3)
    assert paths == {(0,), ("list",), ("deep", "x")}
    rows = [batch_rows.take_row(large, index, paths) for index in range(3)]
    assert torch.equal(rows[1][0], large[0][1:2])
    assert torch.equal(rows[1]["ids"], large["ids"])
    assert all(batch_rows.joins(rows[0], row, paths) for row in rows)
    again = batch_rows.join(rows, paths)
    assert torch.equal(again[0], large[0])
    assert torch.equal(again["deep"]["x"], large["deep"]["x"])
    assert [float(item[0]) for item in again["list"]] == [0, 1, 2]
    args, kwargs = batch_rows.split(again)
    assert len(args) == 1
    assert set(kwargs) == {"ids", "list", "deep"}
    other = {**rows[0], "ids": torch.zeros(3, 2)}
    assert not batch_rows.joins(rows[0], other, paths)


@given(st.integers(2, 40))
def test_log_weights_fall_from_the_noisiest_bin(bins):
    weights = timestep_weights("log", [index / bins for index in range(bins + 1)])
    assert len(weights) == bins
    assert weights[-1] == pytest.approx(1.2)
    assert weights[0] == pytest.approx(0.8)
    assert all(low < high for low, high in pairwise(weights))
    assert weights[-2] == pytest.approx(1.2 - 0.4 * math.log(2) / math.log(bins))


def test_weight_schemes():
    assert timestep_weights("uniform", EDGES) == (1, 1, 1, 1)
    assert timestep_weights("early", EDGES) == (0, 0, 1, 1)
    assert timestep_weights("late", EDGES) == (1, 1, 0, 0)
    assert timestep_weights([1, 0, 2, 0.5], EDGES) == (1, 0, 2, 0.5)
    assert timestep_weights("log", (0, 1)) == (1.2,)


@pytest.mark.parametrize(
    "bad", ["sideways", [1, 1], [0, 0, 0, 0], [1, 1, 1, -1], [1, 1, 1, float("nan")], 3, ["a"] * 4]
)
def test_bad_weights(bad):
    with pytest.raises(UserError):
        timestep_weights(bad, EDGES)


def test_one_bin_has_no_half():
    with pytest.raises(UserError, match="at least 2 bins"):
        timestep_weights("late", (0, 1))


def test_weighted_mean_square(flux, calibration):
    name, bins = NAMES[3], len(calibration.edges) - 1
    squares, tokens = calibration.sum_squares[name], calibration.tokens[name]
    weights = [float(index + 1) for index in range(bins)]
    scale = torch.tensor(weights, dtype=torch.float64)
    expected = (scale[:, None] * squares).sum(0) / (scale * tokens).sum()
    torch.testing.assert_close(calibration.mean_square(name, weights), expected.float())
    torch.testing.assert_close(calibration.mean_square(name, [1.0] * bins), calibration.mean_square(name))
    with pytest.raises(UserError, match="finite numbers"):
        calibration.mean_square(name, [1.0])
