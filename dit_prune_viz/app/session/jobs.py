"""Work in a thread of its own, watched from a generator: progress with time left, intermediate results, and cancel."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dit_prune_viz.app.session.priority import let_others_first
from dit_prune_viz.errors import Cancelled
from dit_prune_viz.memory import give_back
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.lock import WORKER

UNEXPECTED = "Something went wrong. Nothing has changed; the app's terminal shows the details."
"""What is said of work that ended by a fault of the app's own."""
POLL_SECONDS = 0.15
GIVE_BACK_SECONDS = 10.0
"""Freed memory goes back to the system that often, after a job: it takes a moment in which nobody gets any."""
FIRST_SECONDS = 1.5
"""Of a stage, before its pace says how long it will take: what comes first is often quicker than the rest."""


@dataclass(frozen=True)
class Busy:
    """How far a job is. seconds_left is None until there is something to judge by."""

    done: int
    total: int
    what: str
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Queued:
    """The job waits for earlier ones of its owner, which say what they do.

    ahead: how many there are.
    """

    ahead: int = 1


class GaveWay(Cancelled):
    """The job stopped because its owner asked for something else."""


@dataclass(frozen=True)
class Result:
    """The last thing a job yields."""

    value: Any


class Reporter:
    """What a job's work gets: call it as a `Progress`, hand out intermediate results with `emit`.

    gives_way: whether it stops as soon as its owner asks for something else; gave_way: whether it did.
    cancel: set to stop it.
    owner: whose job it is.
    """

    def __init__(
        self, gives_way: bool = False, cancel: threading.Event | None = None, owner: str | None = None
    ) -> None:
        self.owner = owner
        self.cancel = cancel or threading.Event()
        self.gives_way, self.gave_way = gives_way, False
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stage: tuple[int, float] | None = None  # its total, and when it began
        self._done = 0
        self._end: float | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        self.check()
        if self._stage is None or self._stage[0] != total or done == 0 or done < self._done:
            self._stage = (total, time.monotonic())
        self._done = done
        elapsed = time.monotonic() - self._stage[1]
        left = elapsed / done * (total - done) if done and elapsed > FIRST_SECONDS else None
        self._end = None if left is None else time.monotonic() + left
        self.messages.put(Busy(done, total, what, left))

    def follow(self, others: Iterable[Busy]) -> None:
        """Tell of other work what it says of itself, until it ends."""
        for busy in others:
            self(busy.done, busy.total, busy.what)

    def emit(self, item: Any) -> None:
        self.check()
        self.messages.put(item)

    def check(self) -> None:
        """Raise Cancelled if the job was called off."""
        if self.cancel.is_set():
            raise Cancelled

    def begins(self) -> None:
        """Work on a model has begun: from now on, this thread and those that it starts let light work go first."""
        let_others_first()

    def seconds_left(self) -> float | None:
        """Of the stage that the job is in."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Jobs:
    """The jobs of every page, so that its Cancel button finds them.

    An owner's jobs run one after another in the order in which they came: each may build on what the one before it
    left. Jobs of different owners run at the same time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[str, deque[Reporter]] = defaultdict(deque)
        self._gave_back = time.monotonic()

    def run(
        self,
        owner: str,
        work: Callable[[Reporter], Any],
        *,
        gives_way: bool = False,
        cancel: threading.Event | None = None,
    ) -> Iterator[Any]:
        """Run `work(reporter)` in a thread; yield `Queued`s, `Busy`s, emitted items and at last a `Result`.

        Stale `Busy`s are dropped. What `work` raises is raised here, and Cancelled even if the work ended before it
        noticed. The owner's next job starts when this generator ends. Closing the generator cancels the work. A job
        that `gives_way` raises GaveWay, and not Cancelled, once its owner's next job comes. Setting `cancel` stops this
        job alone.
        """
        reporter = Reporter(gives_way, cancel, owner)
        with self._changed:
            for earlier in self._lines[owner]:
                if earlier.gives_way and not earlier.cancel.is_set():
                    earlier.gave_way = True
                    earlier.cancel.set()
            self._lines[owner].append(reporter)
            self._changed.notify_all()
        try:
            while ahead := self._ahead(owner, reporter):
                yield Queued(ahead)
            # With its context, by which a Space that lends GPUs knows whose call it is.
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(_perform, work, reporter), daemon=True).start()
            yield from _follow(reporter)
        except Cancelled:
            if reporter.gave_way:
                raise GaveWay from None
            raise
        finally:
            reporter.cancel.set()
            with self._changed:
                self._lines[owner].remove(reporter)
                if not self._lines[owner]:
                    del self._lines[owner]
                self._changed.notify_all()
            self._give_back()

    def cancel(self, owner: str) -> bool:
        """Ask the owner's jobs to stop, those that wait too; False if there is none."""
        with self._changed:
            reporters = list(self._lines.get(owner, ()))
            for reporter in reporters:
                reporter.gave_way = False
                reporter.cancel.set()
            self._changed.notify_all()
        return bool(reporters)

    def busy(self, owner: str) -> bool:
        """Whether a job of the owner runs or waits."""
        with self._changed:
            return owner in self._lines

    def count(self) -> int:
        """How many jobs run or wait."""
        with self._changed:
            return sum(map(len, self._lines.values()))

    def _give_back(self) -> None:
        """What the job freed, at a bounded rate."""
        with self._changed:
            if time.monotonic() - self._gave_back < GIVE_BACK_SECONDS:
                return
            self._gave_back = time.monotonic()
        give_back()

    def _ahead(self, owner: str, reporter: Reporter) -> int:
        """How many jobs of the owner come first, waiting a moment for none. Cancelled if it is called off meanwhile."""
        line = self._lines[owner]
        with self._changed:
            self._changed.wait_for(lambda: line[0] is reporter or reporter.cancel.is_set(), timeout=POLL_SECONDS)
            if reporter.cancel.is_set():
                raise Cancelled
            return line.index(reporter)


def _perform(work: Callable[[Reporter], Any], reporter: Reporter) -> None:
    WORKER.set(reporter)
    try:
        with telling_of_memory():
            value = work(reporter)
        reporter.messages.put(Result(value))
    except BaseException as problem:  # handed to the generator, which raises it where it is dealt with
        reporter.messages.put(problem)


def _follow(reporter: Reporter) -> Iterator[Any]:
    while True:
        busy = None
        for message in _gather(reporter.messages):
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Busy):
                busy = message
                continue
            if isinstance(message, Result):
                if reporter.cancel.is_set():
                    raise Cancelled
                yield message
                return
            yield message
        if busy:
            yield busy


def _gather(messages: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """The next message and those that follow within a moment, as they come: work that ends by then was never busy."""
    yield messages.get()
    end = time.monotonic() + POLL_SECONDS
    while (left := end - time.monotonic()) > 0:
        try:
            yield messages.get(timeout=left)
        except queue.Empty:
            return
