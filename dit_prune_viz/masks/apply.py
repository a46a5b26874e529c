"""A model with masks on, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed import PackedMask


@contextmanager
def pruned(model: object, masks: Mapping[str, PackedMask], *, cache_bytes: int = 256 << 20) -> Iterator[None]:
    """Run the model with `masks` (layer → mask) on its Linear layers; on leaving, it is the dense model again.

    `model` is a transformer, or anything that has one as `.transformer`: a diffusers pipeline, a `Model`. Layer names
    are module paths inside the transformer. The dense Parameters are only read: each named layer gets a forward of its
    own that multiplies them by the mask, and loses it on exit, whatever happened inside. Biases stay.

    Pruned weights are made anew in every forward, which costs no memory; up to `cache_bytes` of them are kept while the
    block lasts, where no gradients are asked for, so that a small model runs as fast as the dense one.

    UserError, before anything has changed, for an unknown layer, a layer that is no plain Linear, a mask of another
    shape, a model without a transformer, and a transformer that is inside a `pruned` block already.

    Threads: the masks act on the transformer, so every thread that runs it while the block is open sees the pruned
    model. Let one thread at a time use a transformer.
    """
    transformer = _find_transformer(model)
    linears = {name: _find_linear(transformer, name, mask) for name, mask in masks.items()}
    budget = _Budget(cache_bytes)
    try:
        for name, linear in linears.items():
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


class _MaskedForward:
    """The forward of one Linear with its mask on."""

    def __init__(self, linear: nn.Linear, mask: PackedMask, budget: _Budget) -> None:
        self._linear = linear
        self._mask = mask
        self._budget = budget
        self._kept: Tensor | None = None
        self._kept_state: tuple | None = None

    def __call__(self, input: Tensor) -> Tensor:
        return F.linear(input, self._weight(), self._linear.bias)

    def _weight(self) -> Tensor:
        weight = self._linear.weight
        keep = not torch.is_grad_enabled()
        # Offloading may move or replace the weight between two calls, and a person may train it.
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), weight.device, weight.dtype, version)
        if keep and state == self._kept_state:
            return self._kept
        self._mask = self._mask.to(weight.device)
        product = weight * self._mask.unpack()
        if keep and (self._kept is not None or self._budget.take(product.nbytes)):
            self._kept, self._kept_state = product, state
        return product


def _find_transformer(model: object) -> nn.Module:
    transformer = model if isinstance(model, nn.Module) else getattr(model, "transformer", None)
    if not isinstance(transformer, nn.Module):
        raise UserError(f"{type(model).__name__} has no transformer to prune; load a pipeline with a transformer.")
    if any(isinstance(vars(module).get("forward"), _MaskedForward) for module in transformer.modules()):
        raise UserError("The model is running pruned already; wait until that run has ended, then start the next.")
    return transformer


def _find_linear(transformer: nn.Module, name: str, mask: PackedMask) -> nn.Linear:
    try:
        linear = transformer.get_submodule(name) if name else None
    except AttributeError:
        linear = None
    if linear is None:
        raise UserError(f"The model has no layer called '{name}'; prune the model that is loaded.")
    if not isinstance(linear, nn.Linear) or "forward" in vars(linear):
        raise UserError(f"Layer {name} is not a plain Linear layer (offloaded or quantised?), so no mask fits it.")
    if tuple(linear.weight.shape) != tuple(mask.shape):
        raise UserError(
            f"The mask of layer {name} has shape {tuple(mask.shape)}, its weight {tuple(linear.weight.shape)}; "
            "prune the model that is loaded."
        )
    return linear
