"""Where exact arithmetic is done."""

from __future__ import annotations

from torch import Tensor


def float64_capable(tensor: Tensor) -> Tensor:
    """The tensor, detached, on a device that knows float64: its own, or the CPU for Apple's GPU, which does not."""
    tensor = tensor.detach()
    return tensor.cpu() if tensor.device.type == "mps" else tensor
