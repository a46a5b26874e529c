"""Numbers by their bits."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def as_integers(tensor: Tensor) -> Tensor:
    """The tensor's bits as whole numbers of the same size, in its own memory, which must be contiguous in its last
    dimension."""
    return tensor.view(_INTEGERS[tensor.element_size()])
