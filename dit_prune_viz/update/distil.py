"""Masks learned from what the dense model answers; no number of the model moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dit_prune_viz.calibration.inputs import Call, run_call
from dit_prune_viz.calibration.lessons import Lessons, guided
from dit_prune_viz.calibration.weights import checked_weights
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.units import weights_of
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.granularity import n_of_m
from dit_prune_viz.masks.build import mask_of_scores
from dit_prune_viz.masks.packed import PackedMask, pack
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.plan import ClusterPlan, LayerPlan, PruningPlan

MOST_STEPS = 100_000
_FIRST, _SECOND = 0.9, 0.99  # Adam's
# Without cuDNN's attention, whose gradients were NaN (bfloat16, H100, torch 2.11 with cuDNN 9.19).
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_SCALE = 1024.0  # of the loss: float16 would round small gradients to 0, and Adam does not care


def distil_masks(
    model: Model,
    plan: PruningPlan,
    masks: Mapping[str, PackedMask],
    lessons: Lessons,
    *,
    norm: Callable[[str], Tensor],
    mean: Callable[[str], Tensor] | None = None,
    timestep: Sequence[float] | None = None,
    steps: int = 150,
    rate: float = 0.01,
    progress: Progress | None = None,
) -> dict[str, PackedMask]:
    """Masks with the counts of `plan` under which the transformer answers as the dense one does.

    Every weight has a score, and of each layer those with the highest stay, as many as the plan says; clusters with a
    sparsity of their own and N:M keep their counts, while rows and columns may lose more or less than `masks` took
    from them: what a saliency cannot compare between rows the gradients can. In each step the pruned model
    sees one call of `lessons`, and all scores, also those of pruned weights, follow the gradient of its error by how
    much they are there (straight through the selection, as in arXiv 1911.13299 and, for N:M, arXiv 2409.17481), with
    Adam's step sizes (arXiv 1412.6980). The error is the relative squared one of the outputs and, under guidance, also
    that of u + s·(c − u), in which the errors of both halves are blown up unless they agree. A saliency sees a weight
    alone and an exchange a row alone; here errors of different layers cancel too. An extension of this project.

    Memory beside the model: 12 bytes for each weight of a pruned layer, its pruned copy and gradient, and the
    activations of one call; models above a billion parameters recompute those (gradient checkpointing).

    Args:
        model: only read; its lock is held meanwhile.
        plan: says what each layer, cluster or group of N:M loses.
        masks: of the plan, where learning starts.
        lessons: inputs to learn from, see `record_lessons`.
        norm: ‖X_j‖₂ (d_in,) of a layer: how far a weight is from changing sides at the start goes by |W|·‖X‖.
        mean: E[x_j] (d_in,) of a layer, if its bias is going to make up for the mean output that the mask takes away;
            None where biases stay.
        timestep: α of the timestep bins of `lessons`; None weighs all alike.
        steps: calls to learn from, each as often as the next.
        rate: of the scores, in mean |W|·‖X‖ of the layer; falls to 0 in the end.
        progress: called after every step; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, outputs or gradients that are not finite, too little memory.
    """
    steps = whole(steps, "The number of distillation steps", 1, MOST_STEPS)
    bins = len(lessons.edges) - 1
    alpha = torch.tensor(checked_weights(timestep or (1.0,) * bins, bins))
    tasks = [
        _Task(call, alpha[list(call.bins)], pairs, lessons.scale)
        for call, pairs in zip(lessons.calls, lessons.pairs, strict=True)
        if float(alpha[list(call.bins)].sum()) > 0
    ]
    if not tasks:
        raise UserError("None of the inputs to learn from lies in a timestep bin that weighs anything; weigh others.")
    if not any(0 < mask.removed < mask.weights for mask in masks.values()):
        return dict(masks)
    try:
        with model.lock, _checkpointed(model):
            learning = {
                name: _Layer(model, plan.layer(name), mask, norm(name), None if mean is None else mean(name))
                for name, mask in masks.items()
                if 0 < mask.removed < mask.weights
            }
            for step, place in enumerate(_order(len(tasks), steps)):
                error = _learn(model, learning, tasks[place])
                size = rate * min(1.0, 1.25 * (1 - (step + 1) / steps))
                for layer in learning.values():
                    layer.move(size, step + 1)
                if progress is not None:
                    progress(step + 1, steps, f"Distilling masks, error {100 * error:.1f} %")
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise UserError(
                f"Distilling masks does not fit into the memory of {model.device}; an exchange needs less of it."
            ) from error
        raise
    return {name: pack(learning[name].keep) if name in learning else mask for name, mask in masks.items()}


class _Layer:
    """Scores of one layer's weights (d_out, d_in), above 0 where the first mask keeps, and their running moments."""

    def __init__(self, model: Model, plan: LayerPlan, mask: PackedMask, norm: Tensor, mean: Tensor | None) -> None:
        self.plan = plan = _pinned(plan, mask)
        self.linear: nn.Linear = model.transformer.get_submodule(plan.name)
        weight = self.weight = self.linear.weight.detach()
        self.keep = mask.to(weight.device).unpack()
        self.pruned: Tensor | None = None  # the weights that the model runs with, a leaf of the graph
        self.bias, self.mean = self.linear.bias, None
        if mean is not None and self.bias is not None:
            mean = mean.to(weight.device)
            self.bias = (self.bias.float() + weight.float() @ mean).to(weight.dtype)
            self.mean = mean.to(weight.dtype)
        size = weight.float().abs() * norm.to(weight.device)
        size /= size.mean().clamp_min(torch.finfo(torch.float32).tiny)
        cut = size.masked_fill(mask_of_scores(plan, size), 0).amax(1, keepdim=True)
        margin = (size - cut).abs_() + torch.finfo(torch.float32).eps
        self.scores = torch.where(self.keep, margin, -margin)
        self.gradient, self.square = torch.zeros_like(margin), torch.zeros_like(margin)

    def __call__(self, input: Tensor) -> Tensor:
        # With the bias making up for the mean, a mask has a say in what is left of the inputs alone.
        return F.linear(input if self.mean is None else input - self.mean, self.pruned, self.bias)

    def note(self, gradient: Tensor | None) -> None:
        """Take in the loss's gradient by the pruned weights; None where the call did not use the layer."""
        gradient = torch.zeros_like(self.scores) if gradient is None else gradient.float() * self.weight
        self.gradient.lerp_(gradient, 1 - _FIRST)
        self.square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)

    def move(self, rate: float, step: int) -> None:
        """Change the scores, and the mask with them."""
        spread = (self.square / (1 - _SECOND**step)).sqrt_().add_(torch.finfo(torch.float32).tiny)
        self.scores.addcdiv_(self.gradient, spread, value=-rate / (1 - _FIRST**step))
        self.keep = mask_of_scores(self.plan, self.scores)


def _pinned(plan: LayerPlan, mask: PackedMask) -> LayerPlan:
    """The same counts, as `mask` has them, wherever in the layer or its clusters; N:M stays N:M.

    Every cluster gets a sparsity: scores that change would otherwise move weights between those that have none.
    """
    plan = replace(plan, granularity=plan.granularity if n_of_m(plan.granularity) else "layer")
    labels, clusters = None, plan.clusters
    while clusters is not None:
        if clusters.rules:
            own = weights_of(clusters.labels.astype(np.int64), mask.shape, clusters.unit).flatten().numpy()
            labels = own if labels is None else labels * clusters.k + own
        clusters = clusters.beneath
    if labels is None:
        return replace(plan, clusters=None, count=mask.removed)
    labels = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(labels)
    lost = np.bincount(labels, weights=~mask.unpack().cpu().numpy().reshape(-1))
    shares = np.minimum((lost + 0.5) / sizes, 1.0).tolist()  # ⌊size · share⌋ is the count
    return replace(plan, clusters=ClusterPlan("weight", labels.astype(np.int16), tuple(shares)))


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


def _learn(model: Model, layers: Mapping[str, _Layer], task: _Task) -> float:
    """Let all layers note the gradient of one call's error, and the error."""
    for layer in layers.values():
        layer.pruned = (layer.weight * layer.keep).requires_grad_()
    leaves = [layer.pruned for layer in layers.values()]
    with _running(layers.values()), sdpa_kernel(_ATTENTION), torch.enable_grad():
        loss = task.error(_flat(run_call(model, task.call)), _flat(task.call.output.to(model.device)))
        if not bool(torch.isfinite(loss)):
            raise UserError("The outputs of the pruned model are not finite in this precision; load it in float32.")
        gradients = torch.autograd.grad(_SCALE * loss, leaves, allow_unused=True)
    if not bool(torch.stack([gradient.isfinite().all() for gradient in gradients if gradient is not None]).all()):
        raise UserError("The gradients of the pruned model are not finite in this precision; load it in float32.")
    for layer, gradient in zip(layers.values(), gradients, strict=True):
        layer.pruned = None
        layer.note(gradient)
    return float(loss.detach())


def _flat(rows: Sequence[Tensor]) -> Tensor:
    """Outputs of several rows as (rows, n) float32."""
    return torch.stack([row.reshape(-1).float() for row in rows])


def _order(count: int, steps: int) -> Iterator[int]:
    """Which call each step learns from: all of them in a new order each time, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    done = 0
    while done < steps:
        yield from torch.randperm(count, generator=generator).tolist()[: steps - done]
        done += count


@contextmanager
def _running(layers) -> Iterator[None]:
    """The transformer with the layers' pruned weights, and itself again afterwards."""
    try:
        for layer in layers:
            layer.linear.forward = layer
        yield
    finally:
        for layer in layers:
            vars(layer.linear).pop("forward", None)


@contextmanager
def _checkpointed(model: Model) -> Iterator[None]:
    """A large transformer keeps no activations for the backward pass, where its family can do without."""
    transformer = model.transformer
    able = getattr(transformer, "_supports_gradient_checkpointing", False)
    if not model.large or not able or transformer.is_gradient_checkpointing:
        yield
        return
    transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        transformer.disable_gradient_checkpointing()
