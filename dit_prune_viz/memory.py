"""Memory that was freed, but that the C library keeps for the process."""

from __future__ import annotations

import ctypes
from functools import cache


def give_back() -> None:
    """Return freed memory to the system. Does nothing where the C library has no such call.

    glibc keeps what was freed below something that is still in use. Small masks that are made between large tables pin
    more than their own size that way.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim():
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None
