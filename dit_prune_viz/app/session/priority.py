"""Which threads get a busy processor first."""

from __future__ import annotations

import os
import sys
import threading

LATER = 10
"""The niceness of a thread that lets others go first."""


def let_others_first() -> None:
    """Give way to the process's other threads wherever they have something to do, for the rest of this thread's life.

    Linux keeps a niceness for each thread, which the threads that it starts inherit, those of a matrix product among
    them; elsewhere it is the whole process's, and nothing happens. What is computed stays the same.
    """
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    if os.getpriority(os.PRIO_PROCESS, thread) < LATER:  # it can't be taken back without rights
        os.setpriority(os.PRIO_PROCESS, thread, LATER)
