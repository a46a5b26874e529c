"""2:4 on the GPU's kernels, on the CPU: the choice, the shapes, the comparison, and that the dense model comes back.

Kernels are stand-ins that multiply by the masked weight, rightly or wrongly, and report known times.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dit_prune_viz.app.pages.tradeoff import speed as page
from dit_prune_viz.app.session import speed
from dit_prune_viz.errors import UserError
from dit_prune_viz.generation.step_time import StepTime, milliseconds, step_time, time_kernels
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.sparse_kernels import FP8_KERNELS, KERNELS, sparse_kernels, two_of_four_layers, why_not
from dit_prune_viz.masks.two_of_four import Choice, PlainLinear, Shape, Trial, choose_shapes, is_two_of_four, run_trials

A, B, C = Shape(64, 128, 256), Shape(128, 64, 256), Shape(32, 32, 1)


class Standin(PlainLinear):
    """A layer that knows how long it takes."""

    def __init__(self, weight, bias, ms):
        super().__init__(weight, bias)
        self.ms = ms


@dataclass(frozen=True)
class Fake:
    """Multiplies by the weight times `wrong`, in `ms`; refuses rows that are no multiple of `rows`."""

    name: str
    ms: float = 1.0
    wrong: float = 1.0
    rows: int = 1
    broken: bool = False
    tolerance: float = 0.02

    def fits(self, shape, dtype):
        return shape.d_out % self.rows == 0

    def linear(self, weight, bias, tokens):
        if self.broken:
            raise RuntimeError("CUDA error: architecture mismatch when calling `cusparseLtInit(&handle)`\nmore")
        return Standin(weight * self.wrong, bias, self.ms)


def use(kernel: Fake) -> Choice:
    return Choice(kernel, tokens=15)


def clock(layer: nn.Module, tokens) -> float:
    return getattr(layer, "ms", 2.0)


def known(layer: nn.Module, tokens) -> float:
    """Of a transformer: a millisecond for every layer on a kernel, two for every other."""
    layers = [module for module in layer.modules() if isinstance(module, nn.Linear | PlainLinear)]
    return float(sum(1 if isinstance(module, Standin) else 2 for module in layers))


def two_of_four(d_out: int, d_in: int, seed: int = 0) -> torch.Tensor:
    scores = torch.rand(d_out, d_in // 4, 4, generator=torch.Generator().manual_seed(seed))
    keep = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(2).indices, True)
    return keep.view(d_out, d_in)


def test_what_is_two_of_four():
    keep = two_of_four(6, 16)
    assert is_two_of_four(keep)
    fewer = keep.clone()
    fewer[0] = False
    assert is_two_of_four(fewer)
    more = keep.clone()
    more[3, 4:7] = True
    assert not is_two_of_four(more)
    assert not is_two_of_four(torch.zeros(2, 6, dtype=torch.bool))  # no whole number of fours


def test_the_fastest_right_kernel_of_each_shape_is_chosen():
    def trial(shape, kernel, ms, error=0.001):
        return Trial(shape, kernel, 1.0, ms, error, tolerance=0.02)

    trials = [
        trial(A, "slow", 0.9),
        trial(A, "fast", 0.6),
        trial(A, "wrong", 0.1, error=0.5),
        trial(A, "not a number", 0.1, error=float("inf")),
        trial(B, "hardly", 0.99),  # less than 3 % is noise
        trial(C, "slower", 1.4),
        Trial(C, "failed", 1.0, failure="no"),
    ]
    assert choose_shapes(trials) == {A: "fast"}
    assert choose_shapes(trials, gain=1.0) == {A: "fast", B: "hardly"}
    assert choose_shapes([]) == {}


@pytest.mark.parametrize(
    ("kernel", "rows", "columns"), [("CUTLASS", 32, 64), ("cuSPARSELt", 16, 16), ("cuSPARSELt, fp8", 32, 32)]
)
def test_shapes_are_those_that_torch_takes(kernel, rows, columns):
    """The multiples are stated in torch's own table; float32 has no kernel that is exact."""
    (found,) = (one for one in (*KERNELS, *FP8_KERNELS) if one.name == kernel)
    kind = "CUTLASS" if kernel == "CUTLASS" else "CUSPARSELT"
    table = getattr(torch.sparse, f"SparseSemiStructuredTensor{kind}")._DTYPE_SHAPE_CONSTRAINTS
    rule = table[torch.float8_e4m3fn if "fp8" in kernel else torch.bfloat16]
    assert (rule.sparse_min_rows, rule.sparse_min_cols) == (rows, columns)
    assert found.fits(Shape(3 * rows, 5 * columns, 1), torch.bfloat16)
    assert not found.fits(Shape(3 * rows + 8, 5 * columns, 1), torch.bfloat16)
    assert not found.fits(Shape(3 * rows, 5 * columns + 8, 1), torch.bfloat16)
    assert not found.fits(Shape(3 * rows, 5 * columns, 1), torch.float32)


def test_a_trial_compares_and_survives_every_failure():
    weight, bias = torch.randn(64, 128) * two_of_four(64, 128), torch.randn(64)
    kernels = [Fake("right"), Fake("wrong", wrong=1.1), Fake("narrow", rows=48), Fake("broken", broken=True)]
    kernels.append(Fake("nan", wrong=float("nan")))
    trials = {one.kernel: one for one in run_trials({A: lambda: (weight, bias)}, kernels, clock, compile=False)}
    assert trials["right"].usable
    assert trials["right"].error < 1e-6
    assert (trials["right"].dense_ms, trials["right"].ms) == (2.0, 1.0)
    assert not trials["wrong"].usable
    assert trials["wrong"].error == pytest.approx(0.1, abs=0.02)  # the bias is part of both
    assert trials["nan"].error == float("inf")
    assert "does not take this shape" in trials["narrow"].failure
    assert trials["broken"].failure.startswith("CUDA error: architecture mismatch")
    assert choose_shapes(trials.values()) == {A: "right"}


def test_real_kernels_fail_on_the_cpu_and_lose_no_more_than_their_shape():
    weight = torch.randn(64, 128, dtype=torch.bfloat16) * two_of_four(64, 128)
    trials = run_trials({A: lambda: (weight, None)}, (*KERNELS, *FP8_KERNELS), clock, compile=False)
    assert len(trials) == len(KERNELS) + len(FP8_KERNELS)
    assert all(one.ms is None and one.failure for one in trials)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(128, 64), nn.GELU(), nn.ModuleDict({"out": nn.Linear(64, 128, bias=False)})["out"])


@pytest.fixture
def layers():
    updated = compact(torch.randn(128, 64), pack(two_of_four(128, 64)), torch.float32)
    return {"0": PrunedLayer(pack(two_of_four(64, 128)), bias=torch.randn(64)), "2": updated}


@pytest.mark.parametrize("materialise", [False, True])
def test_outputs_are_the_masked_ones_and_the_dense_layers_come_back(model, layers, materialise):
    before, modules = {name: value.clone() for name, value in model.state_dict().items()}, list(model)
    rows = torch.randn(3, 5, 128)
    dense = model(rows)
    with torch.no_grad():
        with running_pruned(model, layers):
            masked = model(rows)
        with sparse_kernels(model, layers, {"0": use(Fake("one"))}, materialise=materialise) as used:
            found = model(rows)
            assert isinstance(model[0], Standin)
            assert isinstance(model[2], PlainLinear) is materialise
    assert used == {"0"}
    torch.testing.assert_close(found, masked)
    assert (found - dense).abs().max() > 0.1
    assert list(model) == modules
    assert all("forward" not in vars(module) for module in modules)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(rows), dense)


@pytest.mark.parametrize("kernel", [Fake("wrong", wrong=1.2), Fake("broken", broken=True)])
def test_a_layer_whose_kernel_differs_runs_masked(model, layers, kernel):
    rows = torch.randn(7, 128)
    with torch.no_grad(), running_pruned(model, layers):
        masked = model(rows)
    with torch.no_grad(), sparse_kernels(model, layers, dict.fromkeys(layers, use(kernel))) as used:
        assert used == frozenset()
        assert torch.equal(model(rows), masked)


def test_put_back_whatever_happens(model, layers):
    modules, rows = list(model), torch.randn(2, 128)
    dense = model(rows)
    with pytest.raises(KeyboardInterrupt), sparse_kernels(model, layers, dict.fromkeys(layers, use(Fake("one")))):
        raise KeyboardInterrupt
    unknown = {**layers, "9": layers["0"]}
    with pytest.raises(UserError), sparse_kernels(model, unknown, {"0": use(Fake("one"))}):
        raise AssertionError
    assert list(model) == modules
    assert torch.equal(model(rows), dense)


def test_refusals_are_one_sentence(flux, monkeypatch):
    assert "this model runs on cpu." in why_not(torch.device("cpu"), torch.float32)
    keep = {layer.name: PrunedLayer(pack(torch.ones(layer.shape, dtype=torch.bool))) for layer in flux.layers[:2]}
    with pytest.raises(UserError, match="only on NVIDIA GPUs from Ampere on"):
        step_time(flux, keep)
    assert speed.note(None) == speed.NO_MODEL
    loaded = SimpleNamespace(model=flux, need_plan=lambda: (flux, None, None))
    assert "runs on cpu" in speed.note(loaded)
    words, table, button = page.offer(loaded)
    assert (words, table, button.interactive) == (speed.note(loaded), "", False)
    with pytest.raises(UserError, match="runs on cpu"):
        speed.measure(loaded)
    with pytest.raises(UserError, match="No layer of this plan is pruned 2:4"):
        two_of_four_layers(keep)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert why_not(torch.device("cuda"), torch.bfloat16).endswith("the Tesla T4 is older.")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert "load it with --dtype bfloat16." in why_not(torch.device("cuda"), torch.float32)
    assert why_not(torch.device("cuda"), torch.bfloat16) is None


def test_a_whole_model_is_timed_and_told(flux):
    layers = {one.name: PrunedLayer(pack(two_of_four(*one.shape))) for one in flux.layers}
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    modules = dict(flux.transformer.named_modules())
    wide = max(one.shape[0] for one in flux.layers)
    kernels = [Fake("quick", rows=wide), Fake("dear", ms=3.0)]
    found = time_kernels(flux, layers, kernels=kernels, compile=False, clock=lambda layer, tokens: clock(layer, tokens)
                         if tokens is not None else known(layer, tokens))  # fmt: skip
    expected = {one.name for one in flux.layers if one.shape[0] == wide}
    assert set(found.faster) == expected
    assert set(found.faster.values()) == {"quick"}
    assert set(found.dense) == {one.name for one in flux.layers} - expected
    assert found.dense_ms - found.sparse_ms == len(expected)
    assert found.error < 1e-5
    modulation = {trial.shape for trial in found.trials if trial.shape.tokens == 1}
    assert modulation  # a prompt has one row of timestep embedding
    assert dict(flux.transformer.named_modules()) == modules
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())
    words = speed.summary(found)
    assert f"{len(expected)} layers take part ({len(expected)} on quick)" in words
    assert speed.table(found).count("<tr>") == 1 + len(found.trials)
    assert all(name in speed.table(found) for name in expected)


def test_no_gain_is_said():
    found = StepTime("RTX", (Trial(A, "x", 1.0, 2.0, 0.0, 0.1),), {}, ("a",), 12.3, None, None, compiled=True)
    assert speed.summary(found) == "No layer shape gains from a 2:4 kernel on the RTX; a dense call takes 12.3 ms."
    assert "<details>" not in speed.table(found)


def test_milliseconds_are_the_least_of_several_calls():
    class Sleepy(PlainLinear):
        calls = 0

        def forward(self, input):
            Sleepy.calls += 1
            return input

    assert 0 <= milliseconds(Sleepy(torch.zeros(1, 1), None), torch.zeros(1)) < 100
    assert Sleepy.calls >= 5
