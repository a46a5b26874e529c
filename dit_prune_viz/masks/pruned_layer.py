"""What pruning makes of a layer: its mask, and new values for what is left where they have moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask

_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class PrunedLayer:
    """A pruned layer on top of the dense one.

    Attributes:
        mask: which weights stay.
        values: (kept,) floating point, the kept weights row by row; None leaves them as they are and takes no memory.
        bias: (d_out,) in the place of the layer's own bias; None leaves that one.

    Raises:
        UserError: more or fewer values than kept weights.
    """

    mask: PackedMask
    values: Tensor | None = None
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values is not None and self.values.shape != (self.mask.kept,):
            raise UserError(
                f"A mask that keeps {self.mask.kept:,} weights does not fit {self.values.numel():,} values."
            )

    @property
    def updated(self) -> bool:
        """Whether anything but the mask differs from the dense layer."""
        return self.values is not None or self.bias is not None

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return sum(part.nbytes for part in (self.values, self.mask.bits, self.bias) if part is not None)

    def dense(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The weights the pruned layer runs with.

        Args:
            weight: the dense layer's own (d_out, d_in), only read.
            out: contiguous, of that shape, dtype and device, to be written; None makes a new one.

        Returns:
            A tensor of that shape, dtype and device, with zeros where the mask prunes.
        """
        mask = self.mask.to(weight.device)
        out = torch.empty_like(weight, memory_format=torch.contiguous_format) if out is None else out
        if self.values is None and weight.device.type == "cpu" and weight.is_contiguous():
            return _masked(weight, mask, out)
        keep = mask.unpack()
        if self.values is None:
            return torch.mul(weight, keep, out=out)
        return out.zero_().masked_scatter_(keep, self.values.to(weight.device, weight.dtype))

    def to(self, device: torch.device | str) -> PrunedLayer:
        """The same on another device; itself where it is there already."""
        parts = [part for part in (self.values, self.bias, self.mask.bits) if part is not None]
        if all(part.device == torch.device(device) for part in parts):
            return self
        values, bias = (None if part is None else part.to(device) for part in (self.values, self.bias))
        return PrunedLayer(self.mask.to(device), values, bias)


def _masked(weight: Tensor, mask: PackedMask, product: Tensor) -> Tensor:
    """Weight times mask piece by piece, so that no byte per weight is needed beside the product."""
    for start in range(0, weight.numel(), _PIECE):
        stop = min(start + _PIECE, weight.numel())
        torch.mul(weight.view(-1)[start:stop], mask.unpack_flat(start, stop), out=product.view(-1)[start:stop])
    return product


def compact(weight: Tensor, mask: PackedMask, dtype: torch.dtype, bias: Tensor | None = None) -> PrunedLayer:
    """A pruned layer from a whole table of new weights.

    Args:
        weight: (d_out, d_in), of which the kept ones are taken.
        mask: which those are.
        dtype: of the values and the bias.
        bias: (d_out,), or None where the layer's own stays.
    """
    values = weight[mask.to(weight.device).unpack()].to(dtype)
    return PrunedLayer(mask, values, bias if bias is None else bias.to(dtype))
