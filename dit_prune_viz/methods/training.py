"""Shared training loop: masks or weights follow the output-error gradient; the model's parameters stay frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dit_prune_viz.calibration.distillation_set import DistillationSet, guided
from dit_prune_viz.calibration.recorded_inputs import Call, run_call
from dit_prune_viz.calibration.timestep_weights import checked_weights
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.denoisers import named_denoisers
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.matrices import run_with, spread
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.resting import keep_while_learning, put_forward

MOST_STEPS = 100_000

_FIRST, _SECOND = 0.9, 0.99  # Adam's
# Without cuDNN's attention, whose gradients were NaN (bfloat16, H100, torch 2.11 with cuDNN 9.19).
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_SCALE = 1024.0  # of the loss: float16 would round small gradients to 0, and Adam does not care


class Learner(ABC):
    """A layer of the model while it learns: it runs with weights of its own, a leaf of the graph.

    With `mean`, layer -> E[x_j] (d_in,), its bias makes up for the mean output that its weights leave out.
    """

    def __init__(self, model: Model, name: str, mean: Callable[[str], Tensor] | None) -> None:
        self.module: nn.Module = model.transformer.get_submodule(name)
        weight = self.weight = model.weight(name)
        self.leaf: Tensor | None = None
        self.bias, self.mean = model.bias(name), None
        if mean is not None and self.bias is not None:
            usual = mean(name).to(weight.device)
            self.bias = (self.bias.float() + weight.float() @ usual).to(weight.dtype)
            self.mean = usual.to(weight.dtype)
        self.gradient = torch.zeros_like(weight, dtype=torch.float32)
        self.square = torch.zeros_like(self.gradient)

    def __call__(self, input: Tensor) -> Tensor:
        # With the bias making up for the mean, the weights have a say in what is left of the inputs alone.
        left = input if self.mean is None else input - spread(self.module, self.mean)
        return run_with(self.module, left, self.leaf, self.bias)

    @abstractmethod
    def present(self) -> Tensor:
        """The weights (d_out, d_in) that the layer runs with now, in its dtype; a new tensor."""

    @abstractmethod
    def move(self, rate: float, step: int) -> None:
        """Take step number `step`, counted from 1."""

    def note(self, gradient: Tensor) -> None:
        """Take in a gradient (d_out, d_in) float32 of the loss, for the running moments."""
        self.gradient.lerp_(gradient, 1 - _FIRST)
        self.square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)

    def follow(self, values: Tensor, rate: float, step: int) -> None:
        """Move `values` (d_out, d_in) down the running gradient over its usual size, as Adam does (arXiv 1412.6980)."""
        spread = (self.square / (1 - _SECOND**step)).sqrt_().add_(torch.finfo(torch.float32).tiny)
        values.addcdiv_(self.gradient, spread, value=-rate / (1 - _FIRST**step))


def learn(
    model: Model,
    examples: DistillationSet,
    start: Callable[[], Mapping[str, Learner]],
    *,
    timestep: Sequence[float] | None,
    steps: int,
    rate: float,
    seed: int,
    what: str,
    progress: Progress | None,
) -> Mapping[str, Learner]:
    """The learners that `start` makes, after `steps` calls of `examples`, each as often as the next.

    The error is the relative squared one of the outputs and, under guidance, also that of u + s·(c − u), in which the
    errors of both halves are blown up unless they agree.

    Args:
        model: only read; its lock is held meanwhile.
        examples: inputs to learn from, see `record_distillation_set`.
        start: called once the model is locked.
        timestep: α of the timestep bins of `examples`; None weighs all alike.
        steps: at least 1.
        rate: what `Learner.move` gets at first; it falls from a fifth of the steps on, see `step_size`.
        seed: of the order of the calls.
        what: is being done, for people.
        progress: called after every step; may raise `Cancelled`.

    Raises:
        UserError: outputs or gradients that are not finite, too little memory, no input in a bin that weighs anything.
    """
    bins = len(examples.edges) - 1
    alpha = torch.tensor(checked_weights(timestep or (1.0,) * bins, bins))
    tasks = [
        _Task(call, alpha[list(call.bins)], pairs, examples.scale)
        for call, pairs in zip(examples.calls, examples.pairs, strict=True)
        if float(alpha[list(call.bins)].sum()) > 0
    ]
    if not tasks:
        raise UserError("None of the inputs to learn from lies in a timestep bin that weighs anything; weigh others.")
    too_large = f"{what} does not fit into the memory of {model.device}; swaps and least squares need less."
    with telling_of_memory(too_large), model.lock.hold(progress), _checkpointed(model):
        learners = start()
        for step, place in enumerate(_order(len(tasks), steps, seed)):
            error = _study(model, learners, tasks[place])
            size = step_size(rate, step, steps)
            for learner in learners.values():
                learner.move(size, step + 1)
            if progress is not None:
                progress(step + 1, steps, f"{what}, error {100 * error:.1f} %")
    return learners


def step_size(rate: float, step: int, steps: int) -> float:
    """The rate of step number `step`, counted from 0, of `steps`: constant for a fifth of them, then falling in a line.

    The line reaches 0 one step after the last, so every step changes something, also where there is only one.
    """
    return rate * min(1.0, 1.25 * (1 - step / steps))


@dataclass(frozen=True, eq=False)
class _Task:
    """One call, the weights of its rows (rows,), and which of them guidance puts together at which scale."""

    call: Call
    weights: Tensor
    pairs: Sequence[tuple[int, int]]
    scale: float

    def error(self, output: Tensor, dense: Tensor) -> Tensor:
        """Relative squared error of outputs (rows, n), and that of what guidance makes of them on top."""
        error = _relative(output, dense, self.weights)
        if not self.pairs:
            return error
        together = (guided(side, self.pairs, self.scale) for side in (output, dense))
        return error + _relative(*together, self.weights[[conditional for conditional, _ in self.pairs]])


def _relative(output: Tensor, dense: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · ‖output − dense‖² ÷ ‖dense‖² of the rows ÷ Σ weight."""
    energy = dense.square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    weights = weights.to(energy)
    errors = (output - dense).square().sum(1) / energy
    return (errors * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


def _study(model: Model, learners: Mapping[str, Learner], task: _Task) -> float:
    """Let all learners note the gradient of one call's error, and the error."""
    for learner in learners.values():
        learner.leaf = learner.present().requires_grad_()
    leaves = [learner.leaf for learner in learners.values()]
    with _running(learners.values()), sdpa_kernel(_ATTENTION), torch.enable_grad(), keep_while_learning():
        loss = task.error(_flat(run_call(model, task.call)), _flat(task.call.output.to(model.device)))
        if not bool(torch.isfinite(loss)):
            raise UserError("The outputs of the pruned model are not finite in this precision; load it in float32.")
        gradients = torch.autograd.grad(_SCALE * loss, leaves, allow_unused=True)
    if not bool(torch.stack([gradient.isfinite().all() for gradient in gradients if gradient is not None]).all()):
        raise UserError("The gradients of the pruned model are not finite in this precision; load it in float32.")
    for learner, gradient in zip(learners.values(), gradients, strict=True):
        learner.leaf = None
        learner.note(torch.zeros_like(learner.gradient) if gradient is None else gradient.float())
    return float(loss.detach())


def _flat(rows: Sequence[Tensor]) -> Tensor:
    """Outputs of several rows as (rows, n) float32."""
    return torch.stack([row.reshape(-1).float() for row in rows])


def _order(count: int, steps: int, seed: int) -> Iterator[int]:
    """Which call each step learns from: all of them in a new order each time."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        yield from torch.randperm(count, generator=generator).tolist()[: steps - done]
        done += count


@contextmanager
def _running(learners) -> Iterator[None]:
    """The transformer with the learners in place of their layers, and itself again afterwards."""
    with ExitStack() as undo:
        for learner in learners:
            undo.callback(put_forward(learner.module, learner))
        yield


@contextmanager
def _checkpointed(model: Model) -> Iterator[None]:
    """A large transformer keeps no activations for the backward pass, where its family can do without."""
    able = [
        one
        for one in named_denoisers(model.transformer).values()
        if model.large and getattr(one, "_supports_gradient_checkpointing", False) and not one.is_gradient_checkpointing
    ]
    for one in able:
        one.enable_gradient_checkpointing()
    try:
        yield
    finally:
        for one in able:
            one.disable_gradient_checkpointing()
