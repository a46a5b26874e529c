"""What an update makes of a pruned layer: new values for the kept weights, another mask, another bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask


@dataclass(frozen=True, eq=False)
class UpdatedWeights:
    """New values for the weights that a mask keeps; pruned weights are 0.

    values: (kept,) floating point, row by row; None leaves the kept weights as they are and takes no memory. mask:
    which weights they are. bias: (d_out,) in the place of the layer's own bias, None where that one stays. left: what
    exchanging has left of the layer's squared output error, 1 where nothing was exchanged. UserError if there are more
    or fewer values than kept weights.
    """

    values: Tensor | None
    mask: PackedMask
    bias: Tensor | None = None
    left: float = 1.0

    def __post_init__(self) -> None:
        if self.values is not None and self.values.shape != (self.mask.kept,):
            raise UserError(
                f"A mask that keeps {self.mask.kept:,} weights does not fit {self.values.numel():,} values."
            )

    @property
    def nbytes(self) -> int:
        """Memory it takes, the mask included."""
        return sum(part.nbytes for part in (self.values, self.mask.bits, self.bias) if part is not None)

    def dense(self, weight: Tensor) -> Tensor:
        """What stands in the place of the layer's own `weight` (d_out, d_in): a new tensor of its dtype and device,
        with zeros where the mask prunes."""
        keep = self.mask.to(weight.device).unpack()
        if self.values is None:
            return weight * keep
        return torch.zeros_like(weight).masked_scatter_(keep, self.values.to(weight.device, weight.dtype))

    def to(self, device: torch.device | str) -> UpdatedWeights:
        """The same on another device; itself where it is there already."""
        parts = [part for part in (self.values, self.bias, self.mask.bits) if part is not None]
        if all(part.device == torch.device(device) for part in parts):
            return self
        values, bias = (None if part is None else part.to(device) for part in (self.values, self.bias))
        return UpdatedWeights(values, self.mask.to(device), bias, self.left)


def compact(
    weight: Tensor, mask: PackedMask, dtype: torch.dtype, bias: Tensor | None = None, left: float = 1.0
) -> UpdatedWeights:
    """The kept weights of `weight` (d_out, d_in) in `dtype`, on its device."""
    values = weight[mask.to(weight.device).unpack()].to(dtype)
    return UpdatedWeights(values, mask, bias if bias is None else bias.to(dtype), left)
