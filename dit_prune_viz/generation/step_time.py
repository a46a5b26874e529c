"""How long one call of the transformer takes, dense and with 2:4 kernels, and which layers gain from them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dit_prune_viz.calibration.trajectory import probe
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.sparse_kernels import KERNELS, masked, sparse_kernels, two_of_four_layers, why_not
from dit_prune_viz.masks.two_of_four import (
    Choice,
    Clock,
    Kernel,
    Shape,
    Trial,
    choose_shapes,
    relative_error,
    run_trials,
)
from dit_prune_viz.pipelines.denoisers import named_denoisers
from dit_prune_viz.pipelines.model import Model

_SECONDS = 0.1
_LEAST_CALLS, _MOST_CALLS = 3, 200


@dataclass(frozen=True)
class StepTime:
    """What 2:4 kernels make of a model.

    Attributes:
        card: the device.
        trials: every kernel on every shape.
        faster: layer → kernel, of those that run on one.
        dense: names of all other pruned layers.
        dense_ms: one call of the dense transformer.
        sparse_ms: one call with the kernels; None where no shape gains.
        error: relative difference of the outputs, with kernels and masked; None with `sparse_ms`.
        compiled: whether both sides went through `torch.compile`.
    """

    card: str
    trials: tuple[Trial, ...]
    faster: Mapping[str, str]
    dense: tuple[str, ...]
    dense_ms: float
    sparse_ms: float | None
    error: float | None
    compiled: bool


def step_time(
    model: Model,
    layers: Mapping[str, PrunedLayer],
    *,
    kernels: Sequence[Kernel] = KERNELS,
    compile: bool = True,
    progress: Progress | None = None,
) -> StepTime:
    """Try 2:4 kernels on every shape of a pruned model, then time the whole transformer with those that are faster.

    The inputs are those of the model's first denoising step at its default size, one prompt.

    Args:
        model: dense; its lock is held meanwhile, and it stays as it was.
        layers: layer → pruned layer.
        kernels: to try.
        compile: whether both sides go through `torch.compile`.
        progress: may raise `Cancelled`.

    Raises:
        UserError: no GPU with 2:4 kernels, a precision that has none, no layer that is 2:4, or weights that move.
    """
    if model.placement is not None and model.placement.kind not in ("device", "cpu"):
        raise UserError("2:4 kernels are timed with the whole transformer on the GPU; load it with --placement device.")
    problem = why_not(model.device, model.dtype)
    if problem:
        raise UserError(problem)
    return time_kernels(model, layers, kernels=kernels, compile=compile, progress=progress)


def time_kernels(
    model: Model,
    layers: Mapping[str, PrunedLayer],
    *,
    kernels: Sequence[Kernel],
    compile: bool,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> StepTime:
    """`step_time` on any device, with whatever kernels and clock."""
    names = two_of_four_layers(layers)
    with model.lock.hold(progress), torch.no_grad():
        denoiser, call, tokens = _first_call(model, names)
        return time_call(
            model.transformer, layers, call, tokens, kernels, compile, progress, clock or milliseconds, denoiser
        )


def time_call(
    transformer: nn.Module,
    layers: Mapping[str, PrunedLayer],
    call: tuple[tuple, dict],
    tokens: Mapping[str, int],
    kernels: Sequence[Kernel],
    compile: bool,
    progress: Progress | None = None,
    clock: Clock | None = None,
    denoiser: str = "",
) -> StepTime:
    """`step_time` of a bare transformer on one call.

    Args:
        transformer: dense; it stays as it was.
        layers: layer → pruned layer.
        call: positional and keyword arguments.
        tokens: layer → tokens that the call brings to it, for those layers that may run on a kernel.
        kernels: to try.
        compile: whether both sides go through `torch.compile`.
        progress: may raise `Cancelled`.
        clock: measures a layer or the transformer.
        denoiser: which one is called, where there are two.
    """
    clock = clock or milliseconds
    modules = {name: transformer.get_submodule(name) for name in layers}
    linears = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}  # no convolutions
    shapes = {name: Shape(*linears[name].weight.shape, tokens[name]) for name in linears if name in tokens}
    first = {shape: name for name, shape in reversed(shapes.items())}
    weights = {shape: partial(masked, linears[name], layers[name]) for shape, name in first.items()}
    trials = run_trials(weights, kernels, clock, compile=compile, progress=progress)
    picked, by_name = choose_shapes(trials), {kernel.name: kernel for kernel in kernels}
    chosen = {name: Choice(by_name[picked[shape]], shape.tokens) for name, shape in shapes.items() if shape in picked}
    called = named_denoisers(transformer)[denoiser]
    run = _Call(called, call)
    with _compiled(called) if compile else nullcontext():
        dense_ms = clock(run, None)
    sparse_ms = error = None
    used: frozenset[str] = frozenset()
    if chosen:
        with running_pruned(transformer, layers):
            reference = run(None)
        with sparse_kernels(transformer, layers, chosen, materialise=compile) as used:
            error = relative_error(run(None), reference)
            with _compiled(called) if compile else nullcontext():
                sparse_ms = clock(run, None)
    faster = {name: chosen[name].kernel.name for name in layers if name in used}
    dense = tuple(name for name in layers if name not in used)
    return StepTime(_card(transformer), trials, faster, dense, dense_ms, sparse_ms, error, compile)


def _card(transformer: nn.Module) -> str:
    device = next(transformer.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def milliseconds(layer: nn.Module, tokens: Tensor | None) -> float:
    """The least time of a call out of at least three and a tenth of a second, after two to warm up."""
    device = next(layer.parameters()).device
    taken: list[float] = []
    layer(tokens)
    layer(tokens)
    while len(taken) < _LEAST_CALLS or (sum(taken) < _SECONDS and len(taken) < _MOST_CALLS):
        _wait(device)
        start = time.perf_counter()
        layer(tokens)
        _wait(device)
        taken.append(time.perf_counter() - start)
    return 1e3 * min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Call(nn.Module):
    """The transformer on one recorded call."""

    def __init__(self, transformer: nn.Module, call: tuple[tuple, dict]) -> None:
        super().__init__()
        self.transformer, self._call = transformer, call

    def forward(self, _: None) -> Tensor:
        args, kwargs = self._call
        output = self.transformer(*args, **{**kwargs, "return_dict": False})[0]
        return torch.stack(list(output)) if isinstance(output, list) else output  # Z-Image answers with a list


def _first_call(model: Model, names: Sequence[str]) -> tuple[str, tuple[tuple, dict], dict[str, int]]:
    """Which denoiser is called first, with what, and how many tokens that brings to each layer."""
    calls: list[tuple[str, tuple[tuple, dict]]] = []
    tokens: dict[str, int] = {}

    def see(denoiser: str, args: tuple, kwargs: dict) -> None:
        calls.append((denoiser, (args, kwargs)))

    def hook(name: str):
        def count(module: nn.Module, args: tuple) -> None:
            tokens.setdefault(name, args[0].numel() // args[0].shape[-1])

        return count

    handles = [model.transformer.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        probe(model, model.defaults.prompts[0], model.defaults.steps, 0, see)
    finally:
        for handle in handles:
            handle.remove()
    return *calls[0], tokens


@contextmanager
def _compiled(transformer: nn.Module) -> Iterator[None]:
    """The transformer's blocks compiled, which is all but the same and starts several times as fast."""
    blocks = [block for _, part in transformer.named_children() if isinstance(part, nn.ModuleList) for block in part]
    try:
        for block in blocks:
            block.compile()
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
        torch._dynamo.reset()
