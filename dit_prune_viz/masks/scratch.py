"""One piece of memory in which the layers of a model make their weights, one after the other."""

from __future__ import annotations

import threading

import torch
from torch import Tensor


class Scratch(threading.local):
    """Memory for one weight at a time; every thread has its own.

    Tables of changing sizes that come and go would leave holes in the memory of the process.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def table(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor in that memory, whose content is left over from another one."""
        size = torch.Size(shape).numel() * dtype.itemsize
        if self._memory.device != device or len(self._memory) < size:
            self._memory = torch.empty(0, dtype=torch.uint8)  # frees the old before the new is made
            with torch.inference_mode(False):  # or only inference could write to it
                self._memory = torch.empty(size, dtype=torch.uint8, device=device)
        return self._memory[:size].view(dtype).view(shape)

    def __deepcopy__(self, memo: dict) -> Scratch:
        return Scratch()

    def __reduce__(self) -> tuple:
        return Scratch, ()
