"""The kept weights of a pruned layer after an update, without the zeros."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed import PackedMask


@dataclass(frozen=True, eq=False)
class UpdatedWeights:
    """New values for the weights that a mask keeps; pruned weights are 0.

    values: (kept,) floating point, row by row. mask: which weights they are. bias: (d_out,) in the place of the layer's
    own bias, None where that one stays. left: what exchanging has left of the layer's squared output error, 1 where
    nothing was exchanged. UserError if there are more or fewer values than kept weights.
    """

    values: Tensor
    mask: PackedMask
    bias: Tensor | None = None
    left: float = 1.0

    def __post_init__(self) -> None:
        if self.values.shape != (self.mask.kept,):
            raise UserError(
                f"A mask that keeps {self.mask.kept:,} weights does not fit {self.values.numel():,} values."
            )

    @property
    def nbytes(self) -> int:
        """Memory it takes, the mask included."""
        return self.values.nbytes + self.mask.bits.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights (d_out, d_in) with zeros where the mask prunes, a new tensor on the device of the values; in the
        dtype of the values unless told."""
        values = self.values if dtype is None else self.values.to(dtype)
        keep = self.mask.to(values.device).unpack()
        return values.new_zeros(self.mask.shape).masked_scatter_(keep, values)

    def to(self, device: torch.device | str) -> UpdatedWeights:
        """The same on another device; itself where it is there already."""
        if self.values.device == torch.device(device):
            return self
        bias = None if self.bias is None else self.bias.to(device)
        return UpdatedWeights(self.values.to(device), self.mask.to(device), bias, self.left)


def compact(
    weight: Tensor, mask: PackedMask, dtype: torch.dtype, bias: Tensor | None = None, left: float = 1.0
) -> UpdatedWeights:
    """The kept weights of `weight` (d_out, d_in) in `dtype`, on its device."""
    values = weight[mask.to(weight.device).unpack()].to(dtype)
    return UpdatedWeights(values, mask, bias if bias is None else bias.to(dtype), left)
