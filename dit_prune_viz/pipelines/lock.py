"""The one lock for work on a model: whoever runs its pipeline, masks its layers or watches them holds it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from dit_prune_viz import formatting
from dit_prune_viz.errors import Progress

POLL_SECONDS = 0.2
WAITING = "Waiting for other work on the model"
_SHORT = 0.1
"""Seconds of work that nobody has to wait for in a way that counts."""
_REMEMBERED = 15

_HELD: ContextVar[tuple[ModelLock, ...]] = ContextVar("held model locks", default=())


class Worker(Protocol):
    """Somebody who keeps track of a piece of work; owner: whose it is."""

    owner: str | None

    def seconds_left(self) -> float | None:
        """How long it still takes; None where that is not known."""

    def begins(self) -> None:
        """Called in the thread that has just got the lock."""


WORKER: ContextVar[Worker | None] = ContextVar("worker", default=None)
"""Whose work this is. What waits for the lock asks it how long that still takes."""


@dataclass(frozen=True)
class Place:
    """A place in the line for a lock.

    Attributes:
        ahead: how many come first, the one who holds the lock among them.
        seconds: how long they are likely to take together; None where that is not known.
    """

    ahead: int
    seconds: float | None

    @property
    def words(self) -> str:
        """Such as "Waiting for other work on the model: 2nd in line, about 40 s"."""
        place = "next" if self.ahead == 1 else _ordinal(self.ahead)
        left = "" if self.seconds is None else f", about {formatting.seconds(max(1.0, self.seconds))}"
        return f"{WAITING}: {place} in line{left}"


@dataclass(eq=False)
class _Ticket:
    """worker: whose it is; began: when it got the lock."""

    worker: Worker | None
    began: float | None = None


class ModelLock:
    """Lets one piece of work at a time use a model, and the others wait in one line.

    A pipeline keeps state while it denoises (its scheduler, the masks on its layers), so calibration, measuring and
    drawing take turns, in the order in which they came: work that lets go and takes the lock again at once, such as a
    long comparison between two of its cells, stands behind whoever waits. Work that holds the lock may take it again,
    also in a thread that it starts with a copy of its context (`contextvars.copy_context().run`), as long as it waits
    for that thread before it lets go.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[_Ticket] = deque()  # the first is that of the holder
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def hold(self, progress: Progress | None = None) -> Iterator[None]:
        """Hold the lock for the length of a `with` block.

        Args:
            progress: is told the place in line several times a second; may raise `Cancelled` to give up.
        """
        held = _HELD.get()
        ticket = None if self in held else _Ticket(WORKER.get())
        if ticket is not None:
            self._wait(ticket, progress)
            if ticket.worker is not None:
                ticket.worker.begins()
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

    @property
    def owners(self) -> set[str]:
        """Whose work holds the lock or waits for it, as far as it says so."""
        with self._changed:
            return {ticket.worker.owner for ticket in self._line if ticket.worker and ticket.worker.owner}

    @property
    def end(self) -> Place:
        """Where somebody who came now would stand."""
        with self._changed:
            return self._place(len(self._line))

    def _wait(self, ticket: _Ticket, progress: Progress | None) -> None:
        with self._changed:
            self._line.append(ticket)
        try:
            while (place := self._place_of(ticket)).ahead:
                if progress is not None:
                    progress(0, 1, place.words)
        except BaseException:
            self._leave(ticket)
            raise

    def _place_of(self, ticket: _Ticket) -> Place:
        """The ticket's place, waiting a moment for the first one."""
        with self._changed:
            if self._changed.wait_for(lambda: self._line[0] is ticket, timeout=POLL_SECONDS):
                ticket.began = time.monotonic()
            return self._place(self._line.index(ticket))

    def _place(self, ahead: int) -> Place:
        left = [self._seconds_left(self._line[place]) for place in range(ahead)]
        return Place(ahead, None if None in left else sum(left))

    def _seconds_left(self, ticket: _Ticket) -> float | None:
        """What the work says itself, else what work took lately."""
        told = ticket.worker and ticket.began and ticket.worker.seconds_left()
        if told is not None or not self._took:
            return told
        passed = time.monotonic() - ticket.began if ticket.began else 0.0
        usual = median(self._took)
        return usual - passed if passed < usual else None if passed > 2 * usual else 0.0

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            took = time.monotonic() - ticket.began if ticket.began else 0.0
            if took > _SHORT:
                self._took.append(took)
            self._line.remove(ticket)
            self._changed.notify_all()


def _ordinal(number: int) -> str:
    last = number % 10 if number % 100 not in (11, 12, 13) else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"
