"""Where and in which precision a model runs, and how running out of memory is told."""

from __future__ import annotations

import torch

from dit_prune_viz.errors import UserError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to use: "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        UserError: an unknown name, or a device that this machine does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"Unknown device {device!r}; use auto, cpu, cuda, cuda:0 or mps.") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(chosen.type, False):
        raise UserError(f"Device {str(device)!r} is not available on this machine; use auto or cpu.")
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The weights' precision: "auto" is bfloat16 on CUDA and float32 elsewhere.

    Raises:
        UserError: neither "auto", "float32", "bfloat16" nor "float16".
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    chosen = _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    if chosen not in _DTYPES.values():
        raise UserError(f"Unknown precision {str(dtype)!r}; use auto, float32, bfloat16 or float16.")
    return chosen


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device's memory, or the machine's, is used up."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
