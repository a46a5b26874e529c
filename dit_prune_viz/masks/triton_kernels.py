"""Whether the kernels that are written in Triton work on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType


def working_kernels(module: str, attempt: Callable[[ModuleType], object], loss: str) -> ModuleType | None:
    """A module of kernels; None where they cannot be used.

    Triton may be missing, as on Windows, or, with a warning, find no C compiler or not know the GPU, each of which it
    says in its own way.

    Args:
        module: its name.
        attempt: launches the kernels on something small.
        loss: what is slower without them, for the warning.
    """
    try:
        kernels = import_module(module)
        attempt(kernels)
    except ImportError:
        return None
    except Exception as error:
        warnings.warn(f"Triton cannot be used, {loss} several times slower: {error}", stacklevel=2)
        return None
    return kernels
