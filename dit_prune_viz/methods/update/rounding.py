"""Rounding to 8 or 4 bits: what a person would use instead of pruning, or together with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.rounding import Rounded, round_to_nearest
from dit_prune_viz.methods.base import option
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.update.base import Update

_BITS = ("8", "4")
_GROUPS = ("64", "32", "128", "row")


@register
@dataclass(frozen=True)
class Round(Update):
    """Kept weights are rounded to the nearest of 255 or 16 values, see `round_to_nearest`; biases stay.

    The vector-wise absmax quantisation of weights in LLM.int8() (Dettmers et al., arXiv 2208.07339), in groups; the
    GPTQ paper (Frantar et al., arXiv 2210.17323) calls it RTN. Activations keep their precision.

    Raises:
        UserError: other bits or another group.
    """

    name: ClassVar[str] = "round"
    label: ClassVar[str] = "Rounded to int8 or 4 bits"
    formula: ClassVar[str] = "s·round(W/s), s = max|W|/127 of every group"
    paper: ClassVar[str] = "arXiv 2208.07339"

    bits: str = option("8", "Bits", choices=_BITS)
    group: str = option("64", "Inputs of a row with one scale", choices=_GROUPS)

    def __post_init__(self) -> None:
        for what, value, known in (("bits", self.bits, _BITS), ("group", self.group, _GROUPS)):
            if value not in known:
                raise UserError(f"The update round takes {what} {', '.join(known)}, not {value!r}.")

    def new_weights(self, weight: Tensor, mask: PackedMask) -> Rounded:
        group = None if self.group == "row" else int(self.group)
        return round_to_nearest(weight, bits=int(self.bits), group=group, mask=mask if mask.removed else None)
