"""Modules that multiply every token by one matrix: Linear layers, and convolutions of kernel 1, which are the same on
channels that stand in another dimension."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

CONVOLUTIONS = MappingProxyType({nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d})
"""Convolution -> the function it computes."""


def matrix_shape(module: nn.Module) -> tuple[int, int] | None:
    """(d_out, d_in) of a module that is a matrix, None for any other.

    A convolution is one if its kernel is 1, without groups and padding; its stride only leaves tokens out. A class with
    a forward of its own, and the output projection of `nn.MultiheadAttention`, which is never called, are none.
    """
    kind = _kind(module)
    if kind is None or isinstance(module, NonDynamicallyQuantizableLinear):
        return None
    weight = module.weight
    if kind is nn.Linear:
        return (weight.shape[0], weight.shape[1]) if weight.ndim == 2 else None
    padded = module.padding not in ("same", "valid") and any(module.padding)
    if module.groups > 1 or padded or any(size != 1 for size in module.kernel_size):
        return None
    return weight.shape[0], weight.shape[1]


def takes_weights(module: nn.Module) -> bool:
    """Whether a module multiplies by the weights of its parts without calling them, as HunyuanDiT's pooling does."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and F.multi_head_attention_forward.__name__ in code.co_names


def matrix(module: nn.Module) -> Tensor:
    """The weight (d_out, d_in) of a module that is a matrix: the parameter itself, or a view of it."""
    weight = module.weight
    return weight if weight.ndim == 2 else weight.view(weight.shape[:2])


def channels_last(module: nn.Module, inputs: Tensor) -> Tensor:
    """The tokens (…, d_in) in an input of a module that is a matrix.

    Args:
        module: a Linear or a convolution.
        inputs: (…, d_in) of a Linear; (batch, d_in, *space) or (d_in, *space) of a convolution, of which the positions
            it reads are taken.

    Returns:
        Of a Linear the input itself, of a convolution a view (batch, *space, d_in).
    """
    if isinstance(module, nn.Linear):
        return inputs
    inputs = inputs if inputs.ndim == 2 + len(module.stride) else inputs[None]
    return inputs[(..., *(slice(None, None, step) for step in module.stride))].movedim(1, -1)


def layout(module: nn.Module) -> Hashable:
    """Equal for two modules that find the same tokens in the same input."""
    return None if isinstance(module, nn.Linear) else module.stride


def spread(module: nn.Module, values: Tensor) -> Tensor:
    """One number per channel (d_in,) in a shape that fits an input of the module."""
    return values if isinstance(module, nn.Linear) else values.reshape(-1, *[1] * len(module.stride))


def run_with(module: nn.Module, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a module that is a matrix would answer with another weight (d_out, d_in) and bias (d_out,)."""
    kind = _kind(module)
    if kind is nn.Linear:
        return F.linear(inputs, weight, bias)
    own = module.weight
    if weight.stride() == own.stride()[:2]:
        # Strides of dimensions of size 1 mean nothing, but kernels, and with them rounding, are chosen by them.
        weight = weight.as_strided(own.shape, own.stride())
    return CONVOLUTIONS[kind](inputs, weight.view(own.shape), bias, module.stride)


def _kind(module: nn.Module) -> type | None:
    """The class that computes what the module answers: Linear, one of the convolutions, or None."""
    forward = type(module).forward
    return next((kind for kind in (nn.Linear, *CONVOLUTIONS) if forward is kind.forward), None)
