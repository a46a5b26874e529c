"""Where and in which precision a model runs, and how running out of memory is told."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dit_prune_viz.errors import UserError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NO_MEMORY = (
    "The memory of this machine or of its GPU is used up; take fewer prompts, samples or steps, smaller pictures, or "
    "load the model with --placement stream, which needs the least."
)
"""Said where nothing better is known."""
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


@contextmanager
def telling_of_memory(sentence: str = NO_MEMORY) -> Iterator[None]:
    """Around work: where memory runs out, what the work held is given back and the sentence told.

    Args:
        sentence: what does not fit, and the way out.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise UserError(sentence) from error
