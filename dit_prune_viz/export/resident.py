"""Layers that keep a mask and its values in memory, and make their weight when they run."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.spread import spread


class _Resident:
    """Mixed into a layer's class: its weight is a property, made anew at every use.

    In bfloat16 a weight takes 1 + 16·(1 − sparsity) bits of memory.
    """

    @property
    def weight(self) -> Tensor:
        """The pruned weight in the layer's own shape, a new tensor with the same bits every time."""
        table = spread(PackedMask(self.mask_bits, self.mask_shape), self.values, threads=torch.get_num_threads())
        return table.view(self.weight_shape)


class ResidentLinear(_Resident, nn.Linear):
    """A Linear of that kind."""


class ResidentConv1d(_Resident, nn.Conv1d):
    """A convolution of that kind, like the next two."""


class ResidentConv2d(_Resident, nn.Conv2d):
    """See `ResidentConv1d`."""


class ResidentConv3d(_Resident, nn.Conv3d):
    """See `ResidentConv1d`."""


RESIDENT = MappingProxyType(
    {
        nn.Linear: ResidentLinear,
        nn.Conv1d: ResidentConv1d,
        nn.Conv2d: ResidentConv2d,
        nn.Conv3d: ResidentConv3d,
    }
)
"""Class of a layer → its resident one."""


def make_resident(module: nn.Module, mask: PackedMask, values: Tensor) -> None:
    """Turn a layer into a resident one, in place; what its weight was before goes.

    Args:
        module: a Linear or a convolution.
        mask: of its weight as a table (d_out, d_in).
        values: (kept,) row by row.
    """
    module.weight_shape = tuple(module.weight.shape)
    module.mask_shape = tuple(mask.shape)
    del module._parameters["weight"]
    module.__class__ = RESIDENT[type(module)]
    module.register_buffer("mask_bits", mask.bits)
    module.register_buffer("values", values)
