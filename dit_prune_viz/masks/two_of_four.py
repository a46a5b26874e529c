"""Which 2:4 layers run faster as such: a trial per layer shape and kernel, and the choice that follows from the trials.

A GPU multiplies a 2:4 weight at up to twice the dense rate, but not every kernel does so on every card and for every
shape: some FLUX shapes are slower (pytorch #153825), and an A100 may gain with one library only. So nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.pipelines.building import BUILDING

GAIN = 1.03
"""A kernel must be this many times as fast as the dense layer; less is lost in the noise of timing."""

_N, _M = 2, 4


@dataclass(frozen=True, order=True)
class Shape:
    """What decides a layer's speed: d_out × d_in of its weight, and how many tokens one call brings."""

    d_out: int
    d_in: int
    tokens: int


@dataclass(frozen=True)
class Trial:
    """One kernel on one shape.

    Attributes:
        shape: of the layer and its input.
        kernel: its name.
        dense_ms: time of the dense layer.
        ms: time of the 2:4 layer; None where the kernel failed or does not take the shape.
        error: ‖y − y_masked‖ / ‖y_masked‖ of its output against the masked dense layer's; None with `ms`.
        tolerance: the largest `error` that rounding explains.
        failure: why it failed, in one sentence.
    """

    shape: Shape
    kernel: str
    dense_ms: float
    ms: float | None = None
    error: float | None = None
    tolerance: float = 0.0
    failure: str = ""

    @property
    def usable(self) -> bool:
        """Whether it ran, and computed what the masked dense layer computes."""
        return self.ms is not None and self.error is not None and self.error <= self.tolerance


class Kernel(Protocol):
    """A way to multiply by a 2:4 weight."""

    name: str
    tolerance: float

    def fits(self, shape: Shape, dtype: torch.dtype) -> bool:
        """Whether it takes such a weight."""

    def linear(self, weight: Tensor, bias: Tensor | None, tokens: int) -> nn.Module:
        """A layer that multiplies by a compressed copy of the weight, which is only read."""


@dataclass(frozen=True)
class Choice:
    """A kernel for a layer whose calls bring so many tokens."""

    kernel: Kernel
    tokens: int


class Clock(Protocol):
    """Measures a layer on an input."""

    def __call__(self, layer: nn.Module, tokens: Tensor) -> float:
        """Milliseconds of one call."""


def is_two_of_four(keep: Tensor) -> bool:
    """Whether a bool mask (d_out, d_in), True = kept, keeps at most two of every four weights along d_in."""
    d_out, d_in = keep.shape
    return d_in % _M == 0 and bool((keep.view(d_out, d_in // _M, _M).sum(-1) <= _N).all())


def choose_shapes(trials: Iterable[Trial], gain: float = GAIN) -> dict[Shape, str]:
    """The fastest usable kernel of each shape that gains from one; all other shapes stay dense."""
    best: dict[Shape, Trial] = {}
    for trial in trials:
        if trial.usable and trial.ms * gain <= trial.dense_ms:
            known = best.get(trial.shape)
            if known is None or trial.ms < known.ms:
                best[trial.shape] = trial
    return {shape: trial.kernel for shape, trial in best.items()}


def relative_error(output: Tensor, reference: Tensor) -> float:
    """‖output − reference‖ / ‖reference‖, in float32; infinite where the output is not finite."""
    reference = reference.float()
    error = (output.float() - reference).norm() / reference.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return float(error) if torch.isfinite(error) else float("inf")


@torch.no_grad()
def run_trials(
    weights: Mapping[Shape, Callable[[], tuple[Tensor, Tensor | None]]],
    kernels: Sequence[Kernel],
    clock: Clock,
    *,
    compile: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Trial, ...]:
    """Time every kernel on every shape against the dense layer, and compare what they compute.

    A kernel that fails, whatever its reason, loses its shape and no more.

    Args:
        weights: shape → makes the masked weight (d_out, d_in) and bias of one layer of that shape.
        kernels: to try.
        clock: measures a layer.
        compile: whether both sides go through `torch.compile`.
        progress: called after every shape; may raise `Cancelled`.
    """
    trials: list[Trial] = []
    for place, (shape, make) in enumerate(weights.items()):
        if compile:
            torch._dynamo.reset()  # it gives a piece of code up after eight versions of it
        weight, bias = make()
        tokens = _tokens(shape, weight)
        reference = F.linear(tokens, weight, bias)
        dense_ms = clock(_ready(PlainLinear(weight, bias), compile), tokens)
        for kernel in kernels:
            if not kernel.fits(shape, weight.dtype):
                trials.append(Trial(shape, kernel.name, dense_ms, failure="It does not take this shape or precision."))
                continue
            try:
                layer = _ready(kernel.linear(weight, bias, shape.tokens), compile)
                error = relative_error(layer(tokens), reference)
                trials.append(Trial(shape, kernel.name, dense_ms, clock(layer, tokens), error, kernel.tolerance))
            except Exception as problem:  # of whatever library: kernels for another card, compilers that are missing
                trials.append(Trial(shape, kernel.name, dense_ms, failure=first_sentence(problem)))
        if progress:
            progress(place + 1, len(weights), "Trying 2:4 kernels")
    return tuple(trials)


class PlainLinear(nn.Module):
    """A Linear around tensors that are there already."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        with BUILDING:  # otherwise a load in another thread could take the weight
            self.weight = nn.Parameter(weight, requires_grad=False)
            self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        # The 2:4 tensors take matrices that lie in one piece only.
        rows = input.reshape(-1, self.in_features).contiguous()
        return F.linear(rows, self.weight, self.bias).reshape(*input.shape[:-1], self.out_features)


def _ready(layer: nn.Module, compile: bool) -> nn.Module:
    return torch.compile(layer) if compile else layer


def _tokens(shape: Shape, weight: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(shape.tokens, shape.d_in, generator=random).to(weight.device, weight.dtype)
