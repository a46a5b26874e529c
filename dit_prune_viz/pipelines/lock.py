"""The one lock for work on a model: whoever runs its pipeline, masks its layers or watches them holds it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dit_prune_viz.errors import Progress

POLL_SECONDS = 0.2
WAITING = "Waiting for other work on the model"

_HELD: ContextVar[tuple[ModelLock, ...]] = ContextVar("held model locks", default=())


class ModelLock:
    """Lets one piece of work at a time use a model.

    A pipeline keeps state while it denoises (its scheduler, the masks on its layers), so calibration, measuring and
    drawing take turns. Work that holds the lock may take it again, also in a thread that it starts with a copy of its
    context (`contextvars.copy_context().run`), as long as it waits for that thread before it lets go.
    """

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(1)

    @contextmanager
    def hold(self, progress: Progress | None = None) -> Iterator[None]:
        """Hold the lock for the length of a `with` block.

        Args:
            progress: is told that the work waits, several times a second; may raise `Cancelled` to give up.
        """
        held = _HELD.get()
        taken = self not in held
        while taken and not self._semaphore.acquire(timeout=POLL_SECONDS):
            if progress is not None:
                progress(0, 1, WAITING)
        token = _HELD.set((*held, self))
        try:
            yield
        finally:
            _HELD.reset(token)
            if taken:
                self._semaphore.release()

    @property
    def free(self) -> bool:
        """Whether nobody holds the lock at this moment."""
        if not self._semaphore.acquire(blocking=False):
            return False
        self._semaphore.release()
        return True
