"""The one lock for work on a model: whoever runs its pipeline, masks its layers or watches them holds it."""

from __future__ import annotations

import threading
from collections import deque
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
    drawing take turns, in the order in which they came: work that lets go and takes the lock again at once, such as a
    long comparison between two of its cells, stands behind whoever waits. Work that holds the lock may take it again,
    also in a thread that it starts with a copy of its context (`contextvars.copy_context().run`), as long as it waits
    for that thread before it lets go.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()  # a ticket each, the first is that of the holder

    @contextmanager
    def hold(self, progress: Progress | None = None) -> Iterator[None]:
        """Hold the lock for the length of a `with` block.

        Args:
            progress: is told that the work waits, several times a second; may raise `Cancelled` to give up.
        """
        held = _HELD.get()
        ticket = None if self in held else object()
        if ticket is not None:
            self._wait(ticket, progress)
        token = _HELD.set((*held, self))
        try:
            yield
        finally:
            _HELD.reset(token)
            if ticket is not None:
                self._leave(ticket)

    @property
    def free(self) -> bool:
        """Whether nobody holds the lock at this moment."""
        return not self._line

    def _wait(self, ticket: object, progress: Progress | None) -> None:
        with self._changed:
            self._line.append(ticket)
        try:
            while not self._is_first(ticket):
                if progress is not None:
                    progress(0, 1, WAITING)
        except BaseException:
            self._leave(ticket)
            raise

    def _is_first(self, ticket: object) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._line[0] is ticket, timeout=POLL_SECONDS)

    def _leave(self, ticket: object) -> None:
        with self._changed:
            self._line.remove(ticket)
            self._changed.notify_all()
