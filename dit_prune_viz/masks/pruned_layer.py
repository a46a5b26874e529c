"""What pruning makes of a layer: its mask, and new values for what is left where they have moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.rounding import Rounded

_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class PrunedLayer:
    """A pruned layer on top of the dense one.

    Attributes:
        mask: which weights stay.
        new: (kept,) floating point, the kept weights row by row, or rounded ones, which become weights when the layer
            runs; None leaves them as they are and takes no memory.
        bias: (d_out,) in the place of the layer's own bias; None leaves that one.

    Raises:
        UserError: more or fewer values than kept weights.
    """

    mask: PackedMask
    new: Tensor | Rounded | None = None
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        given = self.rounded.codes if self.rounded else self.new
        if given is not None and given.shape != (self.mask.kept,):
            raise UserError(f"A mask that keeps {self.mask.kept:,} weights does not fit {given.numel():,} values.")

    @property
    def rounded(self) -> Rounded | None:
        """The kept weights as codes and scales, where they were rounded."""
        return self.new if isinstance(self.new, Rounded) else None

    @property
    def values(self) -> Tensor | None:
        """(kept,) floating point, row by row, made anew where they are rounded; None where the layer's own stay."""
        return self.new.kept() if isinstance(self.new, Rounded) else self.new

    @property
    def updated(self) -> bool:
        """Whether anything but the mask differs from the dense layer."""
        return self.new is not None or self.bias is not None

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return sum(part.nbytes for part in (self.new, self.mask.bits, self.bias) if part is not None)

    def dense(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The weights the pruned layer runs with.

        Args:
            weight: the dense layer's own (d_out, d_in), only read.
            out: contiguous, of that shape, dtype and device, to be written; None makes a new one.

        Returns:
            A tensor of that shape, dtype and device, with zeros where the mask prunes.
        """
        mask = self.mask.to(weight.device)
        if self.new is None and out is None and weight.requires_grad and torch.is_grad_enabled():
            return weight * mask.unpack()
        out = torch.empty_like(weight, memory_format=torch.contiguous_format) if out is None else out
        if self.rounded:
            return self.rounded.to(weight.device).values(out=out)
        if self.new is None and weight.device.type == "cpu" and weight.is_contiguous():
            return _masked(weight, mask, out)
        keep = mask.unpack()
        if self.new is None:
            return torch.mul(weight, keep, out=out)
        return out.zero_().masked_scatter_(keep, self.new.to(weight.device, weight.dtype))

    def to(self, device: torch.device | str) -> PrunedLayer:
        """The same on another device; itself where it is there already."""
        new = self.rounded.codes if self.rounded else self.new
        parts = [part for part in (new, self.bias, self.mask.bits) if part is not None]
        if all(part.device == torch.device(device) for part in parts):
            return self
        new, bias = (None if part is None else part.to(device) for part in (self.new, self.bias))
        shared = isinstance(new, Rounded) and new.mask is not None
        return PrunedLayer(new.mask if shared else self.mask.to(device), new, bias)


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
