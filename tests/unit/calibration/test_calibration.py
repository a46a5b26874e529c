"""Calibration against a naive reference, and what it leaves behind: nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dit_prune_viz.calibration.batch_rows import select_rows
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.draw import draw_inputs
from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import load_model


def hooks(model) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.transformer.modules()
    ) + ("step" in vars(model.pipeline.scheduler))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.transformer.state_dict().items()}


class Recorder:
    """The naive reference: keeps every input of some layers, per transformer call, in float64."""

    def __init__(self, model, names):
        self.inputs = {name: [] for name in names}
        self.handles = [
            model.transformer.get_submodule(name).register_forward_pre_hook(
                lambda module, args, name=name: self.inputs[name].append(args[0].detach().double().clone())
            )
            for name in names
        ]

    def close(self):
        for handle in self.handles:
            handle.remove()


NAMES = (
    "transformer_blocks.0.norm1.linear",
    "transformer_blocks.1.attn.add_k_proj",
    "single_transformer_blocks.1.proj_out",
)


def test_all_inputs_watched_equal_the_naive_sums(flux):
    # 2 prompts × 4 steps × 2 guidance halves = 16 inputs: every row of every call counts.
    recorder = Recorder(flux, NAMES)
    calibration = calibrate(flux, samples=16, seed=3, steps=4)
    recorder.close()
    for name in NAMES:
        # The first call's inputs belong to the probe of one prompt's first step (two halves).
        watched = [inputs for inputs in recorder.inputs[name] if inputs.shape[0] == 2]
        assert len(watched) == 8
        rows = torch.cat([inputs.reshape(-1, inputs.shape[-1]) for inputs in watched])
        expected = rows.square().sum(0)
        assert int(calibration.tokens[name].sum()) == rows.shape[0]
        torch.testing.assert_close(calibration.sum_squares[name].sum(0), expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(calibration.norm(name), expected.sqrt().float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(calibration.mean_square(name), rows.square().mean(0).float(), rtol=1e-6, atol=0)
    assert len(calibration.timesteps) == 16
    assert sorted(set(calibration.timesteps)) == pytest.approx(
        sorted(flux.pipeline.scheduler.timesteps.div(1000).tolist())
    )


def test_only_drawn_rows_count(flux):
    # Recompute the drawn rows by hand: which prompt, step and half each one is.
    seed, samples, steps = 5, 9, 4
    draw = draw_inputs(samples, prompts=flux.defaults.prompts, steps=steps, halves=2, seed=seed)
    name = "transformer_blocks.0.attn.to_q"
    recorder = Recorder(flux, [name])
    calibration = calibrate(flux, samples=samples, seed=seed, steps=steps, bins=5)
    recorder.close()
    calls = recorder.inputs[name][2:]  # after the probe: step by step, half by half, one row per run
    assert {call.shape[0] for call in calls} == {len(draw.watched)}
    expected = torch.zeros(5, calls[0].shape[-1], dtype=torch.float64)
    times = flux.pipeline.scheduler.timesteps / 1000
    for place, run in enumerate(sorted(draw.watched)):
        for step, halves in draw.watched[run].items():
            for half in halves:
                rows = calls[2 * step + half][place]
                expected[min(int(times[step] * 5), 4)] += rows.square().sum(0)
    torch.testing.assert_close(calibration.sum_squares[name], expected, rtol=1e-6, atol=0)
    assert calibration.edges == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1))


def test_same_seed_same_sums_other_seed_other_sums(flux):
    first, again, other = (calibrate(flux, samples=6, seed=seed) for seed in (1, 1, 2))
    for layer in flux.layers:
        assert torch.equal(first.sum_squares[layer.name], again.sum_squares[layer.name])
    assert first.timesteps == again.timesteps
    assert not torch.equal(first.norm(NAMES[1]), other.norm(NAMES[1]))


def test_weights_and_hooks_are_untouched_whatever_happens(flux):
    before, clean = weights(flux), hooks(flux)

    def give_up(done, total, what):
        assert 1 <= done <= total
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrate(flux, samples=8, progress=give_up)
    assert hooks(flux) == clean
    calibrate(flux, samples=2)
    assert hooks(flux) == clean
    after = weights(flux)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert flux.lock.free


def test_progress_counts_to_its_total(flux):
    seen = []
    calibrate(flux, samples=80, steps=3, progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total, _ in seen} == {len(seen)}


def test_more_inputs_than_the_usual_prompts_have(flux):
    calibration = calibrate(flux, samples=9, steps=1)  # one step has two inputs, so five prompts are needed
    assert len(calibration.timesteps) == 9
    assert set(calibration.tokens["transformer_blocks.0.norm1.linear"].tolist()) == {0, 9}


@pytest.mark.parametrize("family", ["sd3", "pixart", "dit"])
def test_other_families(request, family):
    model = load_model(request.getfixturevalue(f"tiny_{family}"), device="cpu")
    calibration = calibrate(model, samples=12, steps=3, seed=1)
    again = calibrate(model, samples=12, steps=3, seed=1)
    assert len(calibration.timesteps) == 12
    for layer in model.layers:
        norm = calibration.norm(layer.name)
        assert norm.shape == (layer.shape[1],)
        assert bool(torch.isfinite(norm).all())
        assert float(norm.max()) > 0
        assert torch.equal(norm, again.norm(layer.name))
    rows = {int(calibration.tokens[layer.name].sum()) for layer in model.layers if layer.kind == "adaLN"}
    assert rows <= {12}  # one vector per watched input


def test_timesteps_cover_the_whole_range(flux):
    timesteps = calibrate(flux, samples=64, steps=10).timesteps
    assert len(set(timesteps)) >= 8
    assert min(timesteps) < 0.4
    assert max(timesteps) == 1.0


def test_draw_is_without_replacement_and_within_range():
    draw = draw_inputs(40, prompts=["a", "b", "c"], steps=5, halves=2, seed=0)
    drawn = [(run, step, half) for run, steps in draw.watched.items() for step, hs in steps.items() for half in hs]
    assert len(drawn) == len(set(drawn)) == 40
    assert len(draw.prompts) == 5
    assert all(run < 5 and step < 5 and half < 2 for run, step, half in drawn)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 2, 5, 4), (6, 4), (6, 5, 4)])
def test_rows_of_any_rank(shape):
    inputs = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    picked = select_rows(inputs, [0, 2], 3)
    expected = inputs.reshape(3, -1, shape[-1])[[0, 2]]
    assert torch.equal(picked.reshape(-1, shape[-1]), expected.reshape(-1, shape[-1]))


@pytest.mark.parametrize("rows", [[1], [3, 4], [0, 2, 4], [0, 1, 3], [0, 1, 2, 3, 4]])
def test_rows_at_any_distance(rows):
    inputs = torch.arange(5.0 * 2 * 3).reshape(5, 2, 3)
    assert torch.equal(select_rows(inputs, rows, 5), inputs[rows])


def test_inputs_shared_by_the_batch_count_once_per_row():
    shared = torch.ones(1, 4)
    assert select_rows(shared, [0, 1, 3], 4).reshape(-1, 4).shape == (3, 4)
    assert select_rows(torch.ones(4), [0, 1], 4).reshape(-1, 4).shape == (2, 4)


def test_sums_ignore_autocast():
    inputs = torch.randn(7, 33, 16, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    sums = Sums([Layer("a", "s", 0, "q", (8, 16))], 2, torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums.add("a", inputs, 1)
    expected = inputs.double().square().sum((0, 1))
    torch.testing.assert_close(sums.squares["a"][1], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(sums.totals["a"][1], inputs.double().sum((0, 1)), rtol=1e-5, atol=1e-4)
    assert sums.tokens["a"].tolist() == [0, 7 * 33]
    assert not sums.squares["a"][0].any()


def test_means_and_centred_norms_are_those_of_the_tokens():
    generator = torch.Generator().manual_seed(3)
    early, late = torch.randn(40, 6, generator=generator) + 2, torch.randn(25, 6, generator=generator) * 3
    early[:, 5], late[:, 5] = 1, 1
    sums = Sums([Layer("a", "s", 0, "q", (8, 6))], 2, torch.device("cpu"))
    sums.add("a", early, 0)
    sums.add("a", late, 1)
    found = Calibration(2, 0, 0.0, (), (0, 0.5, 1), sums.squares, sums.tokens, sums.totals)
    every = torch.cat([early, late]).double()
    centred = every - every.mean(0)
    torch.testing.assert_close(found.mean("a").double(), every.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.norm("a", centred=True)[:5].double(), centred.norm(dim=0)[:5], rtol=1e-5, atol=0)
    variance = centred.square().mean(0)
    torch.testing.assert_close(found.mean_square("a", centred=True)[:5].double(), variance[:5], rtol=1e-5, atol=0)
    assert 0 < found.norm("a", centred=True)[5] <= 0.011 * found.norm("a")[5]
    only = late.double() - late.double().mean(0)
    torch.testing.assert_close(found.norm("a", (0, 1), centred=True)[:5].double(), only.norm(dim=0)[:5])
    torch.testing.assert_close(found.mean("a", (0, 1)).double(), late.double().mean(0), rtol=1e-5, atol=1e-6)


def test_one_tensor_for_two_layers_and_one_changed_in_between():
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 2) for _ in range(3))

        def forward(self, hidden_states):
            self.a(hidden_states)
            self.b(hidden_states)
            self.c(hidden_states.mul_(2))

    model = Three()
    sums = Sums([Layer(name, "s", 0, "q", (2, 3)) for name in "abc"], 1, torch.device("cpu"))
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = inputs[1].double().square().sum(0)
    with torch.no_grad(), watch_inputs(model, sums_layers(sums), sums, lambda batch: ([1], 0)):
        model(inputs)
    for name, factor in (("a", 1), ("b", 1), ("c", 4)):
        torch.testing.assert_close(sums.squares[name][0], factor * expected, rtol=1e-6, atol=0)
        assert sums.tokens[name].tolist() == [5]


def sums_layers(sums: Sums) -> list[Layer]:
    return [Layer(name, "s", 0, "q", (2, 3)) for name in sums.squares]


def test_inputs_that_are_not_finite_name_the_layer(tiny_flux):
    model = load_model(tiny_flux, device="cpu")
    name = "single_transformer_blocks.0.norm.linear"
    handle = model.transformer.get_submodule(name).register_forward_pre_hook(
        lambda module, args: (torch.full_like(args[0], float("inf")),)
    )
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        calibrate(model, samples=8)  # all inputs of one prompt, so the first step is among them
    handle.remove()
    assert isinstance(calibrate(model, samples=2), Calibration)


@pytest.mark.parametrize(
    "bad",
    [
        {"samples": 0},
        {"samples": -3},
        {"samples": 1.5},
        {"samples": True},
        {"steps": 0},
        {"bins": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"prompts": []},
        {"prompts": ["  "]},
    ],
)
def test_bad_numbers(flux, bad):
    with pytest.raises(UserError):
        calibrate(flux, **{"samples": 2, **bad})


def test_timestep_weights(flux):
    calibration = calibrate(flux, samples=8, bins=4)
    name = NAMES[0]
    torch.testing.assert_close(calibration.norm(name, torch.ones(4)), calibration.norm(name))
    only = calibration.norm(name, [0, 0, 0, 1])
    torch.testing.assert_close(only, calibration.sum_squares[name][3].sqrt().float())
    for bad in ([1, 1], [1, 1, 1, -1], [1, 1, 1, float("nan")]):
        with pytest.raises(UserError, match="4 finite numbers"):
            calibration.norm(name, bad)
    with pytest.raises(UserError, match="not calibrated"):
        calibration.norm("nowhere")


def test_a_layer_that_never_ran_has_norm_zero():
    empty = Calibration(
        samples=1,
        seed=0,
        seconds=0.0,
        timesteps=(0.5,),
        edges=(0.0, 1.0),
        sum_squares={"a": torch.zeros(1, 3, dtype=torch.float64)},
        tokens={"a": torch.zeros(1, dtype=torch.int64)},
    )
    assert empty.norm("a").tolist() == empty.mean_square("a").tolist() == [0, 0, 0]


def test_no_module_is_added(flux):
    before = [type(module) for module in flux.transformer.modules()]
    calibrate(flux, samples=1)
    assert [type(module) for module in flux.transformer.modules()] == before
    assert nn.Linear in before
