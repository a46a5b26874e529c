"""Layers that keep a mask and its values in memory, and make their weight when they run."""

from __future__ import annotations

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.scratch import Scratch
from dit_prune_viz.masks.spread import spread


class _Resident:
    """Mixed into a layer's class: its weight is a property, made anew at every use.

    In bfloat16 a weight takes 1 + 16·(1 − sparsity) bits of memory.
    """

    @property
    def weight(self) -> Tensor:
        """The pruned weight in the layer's own shape, a new tensor with the same bits every time."""
        return self._make(None)

    def _make(self, out: Tensor | None) -> Tensor:
        return spread(self._mask(), self.values, threads=torch.get_num_threads(), out=out).view(self.weight_shape)

    def _mask(self) -> PackedMask:
        """The mask, another one only when its bits have moved: it remembers what was counted in it."""
        if self._own_mask.bits is not self.mask_bits:
            self._own_mask = PackedMask(self.mask_bits, self._own_mask.shape)
        return self._own_mask


class ResidentLinear(_Resident, nn.Linear):
    """A Linear of that kind."""

    def forward(self, input: Tensor) -> Tensor:
        """As a Linear's; without gradients the weight is needed no longer than this takes."""
        if torch.is_grad_enabled():
            return super().forward(input)
        out = self._scratch.table(self.weight_shape, self.values.dtype, self.values.device)
        return F.linear(input, self._make(out), self.bias)


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


def make_resident(module: nn.Module, mask: PackedMask, values: Tensor, scratch: Scratch | None = None) -> None:
    """Turn a layer into a resident one, in place; what its weight was before goes.

    Args:
        module: a Linear or a convolution.
        mask: of its weight as a table (d_out, d_in).
        values: (kept,) row by row.
        scratch: of the model; None is one of its own.
    """
    module.weight_shape = tuple(module.weight.shape)
    del module._parameters["weight"]
    module.__class__ = RESIDENT[type(module)]
    module.register_buffer("mask_bits", mask.bits)
    module.register_buffer("values", values)
    module._own_mask, module._scratch = mask, scratch or Scratch()
