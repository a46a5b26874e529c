"""A model with masks on, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.plain_weights import check_adapters, check_layer

if TYPE_CHECKING:
    from dit_prune_viz.masks.pruned_layer import UpdatedWeights


@contextmanager
def pruned(
    model: object,
    masks: Mapping[str, PackedMask],
    *,
    updates: Mapping[str, UpdatedWeights] | None = None,
    cache_bytes: int = 256 << 20,
) -> Iterator[None]:
    """Run the model with `masks` (layer → mask) on its Linear layers; on leaving, it is the dense model again.

    `model` is a transformer, or anything that has one as `.transformer`: a diffusers pipeline, a `Model`. Layer names
    are module paths inside the transformer. The dense Parameters are only read: each named layer gets a forward of its
    own that multiplies them by the mask, and loses it on exit, whatever happened inside. Biases stay.

    `updates` (layer → updated weights) replaces the kept weights, and the bias where the update has one, of the layers
    it names; a layer that has an update needs no mask beside it.

    Pruned weights are made anew in every forward, which costs no memory; up to `cache_bytes` of them are kept while the
    block lasts, where no gradients are asked for, so that a small model runs as fast as the dense one.

    UserError, before anything has changed, for an unknown layer, a layer that is no plain Linear, a mask of another
    shape, a model without a transformer, one with quantised layers or LoRA adapters, an update made for another mask,
    and a transformer that is inside a `pruned` block already.

    Threads: the masks act on the transformer, so every thread that runs it while the block is open sees the pruned
    model. Let one thread at a time use a transformer.
    """
    transformer = _find_transformer(model)
    updates = dict(updates or {})
    for name, update in updates.items():
        _check_update(name, update, masks.get(name))
    masks = {**masks, **{name: update.mask for name, update in updates.items()}}
    linears = {name: _find_linear(transformer, name, mask) for name, mask in masks.items()}
    budget = _Budget(cache_bytes)
    try:
        for name, linear in linears.items():
            if name in updates:
                linear.forward = _UpdatedForward(linear, updates[name], budget)
            else:
                linear.forward = _MaskedForward(linear, masks[name], budget)
        yield
    finally:
        for linear in linears.values():
            vars(linear).pop("forward", None)


class _Budget:
    """Bytes of pruned weights that may still be kept."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


class _PrunedForward:
    """The forward of one Linear with other weights than its own, which are made when needed or kept."""

    def __init__(self, linear: nn.Linear, budget: _Budget) -> None:
        self._linear = linear
        self._budget = budget
        self._kept: Tensor | None = None
        self._kept_state: tuple | None = None

    def __call__(self, input: Tensor) -> Tensor:
        return F.linear(input, self._weight(), self._bias())

    def _weight(self) -> Tensor:
        weight = self._linear.weight
        keep = not torch.is_grad_enabled()
        # Offloading may move or replace the weight between two calls, and a person may train it.
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), weight.device, weight.dtype, version)
        if keep and state == self._kept_state:
            return self._kept
        product = self._make(weight)
        if keep and (self._kept is not None or self._budget.take(product.nbytes)):
            self._kept, self._kept_state = product, state
        return product

    def _make(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def _bias(self) -> Tensor | None:
        return self._linear.bias


class _MaskedForward(_PrunedForward):
    """Its own weights with its mask on."""

    def __init__(self, linear: nn.Linear, mask: PackedMask, budget: _Budget) -> None:
        super().__init__(linear, budget)
        self._mask = mask

    def _make(self, weight: Tensor) -> Tensor:
        self._mask = self._mask.to(weight.device)
        return weight * self._mask.unpack()


class _UpdatedForward(_PrunedForward):
    """Updated weights in the place of its own."""

    def __init__(self, linear: nn.Linear, update: UpdatedWeights, budget: _Budget) -> None:
        super().__init__(linear, budget)
        self._update = update

    def _make(self, weight: Tensor) -> Tensor:
        self._update = self._update.to(weight.device)
        return self._update.dense(weight)

    def _bias(self) -> Tensor | None:
        weight, bias = self._linear.weight, self._update.bias
        return self._linear.bias if bias is None else bias.to(weight.device, weight.dtype)


def _check_update(name: str, update: UpdatedWeights, mask: PackedMask | None) -> None:
    if mask is None or mask is update.mask:
        return
    if mask.shape != update.mask.shape or not torch.equal(mask.bits.cpu(), update.mask.bits.cpu()):
        raise UserError(f"The weight update of layer {name} was made for another mask; update the weights again.")


def _find_transformer(model: object) -> nn.Module:
    transformer = model if isinstance(model, nn.Module) else getattr(model, "transformer", None)
    if not isinstance(transformer, nn.Module):
        raise UserError(f"{type(model).__name__} has no transformer to prune; load a pipeline with a transformer.")
    if any(isinstance(vars(module).get("forward"), _PrunedForward) for module in transformer.modules()):
        raise UserError("The model is running pruned already; wait until that run has ended, then start the next.")
    check_adapters(transformer, "this model")
    return transformer


def _find_linear(transformer: nn.Module, name: str, mask: PackedMask) -> nn.Linear:
    try:
        linear = transformer.get_submodule(name) if name else None
    except AttributeError:
        linear = None
    if linear is None:
        raise UserError(f"The model has no layer called '{name}'; prune the model that is loaded.")
    check_layer(linear, "this model")
    if not isinstance(linear, nn.Linear) or "forward" in vars(linear):
        raise UserError(f"Layer {name} is not a plain Linear layer (offloaded?), so no mask fits it.")
    if tuple(linear.weight.shape) != tuple(mask.shape):
        raise UserError(
            f"The mask of layer {name} has shape {tuple(mask.shape)}, its weight {tuple(linear.weight.shape)}; "
            "prune the model that is loaded."
        )
    return linear
