"""Work in a thread of its own, watched from a generator: progress with time left, intermediate results, and cancel."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dit_prune_viz.errors import Cancelled

POLL_SECONDS = 0.15


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
class Result:
    """The last thing a job yields."""

    value: Any


class Reporter:
    """What a job's work gets: call it as a `Progress`, hand out intermediate results with `emit`."""

    def __init__(self) -> None:
        self.cancel = threading.Event()
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stage: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.cancel.is_set():
            raise Cancelled
        if self._stage is None or self._stage[0] != total or done == 0:
            self._stage = (total, time.monotonic())
        elapsed = time.monotonic() - self._stage[1]
        left = elapsed / done * (total - done) if done and elapsed > 0.5 else None
        self.messages.put(Busy(done, total, what, left))

    def emit(self, item: Any) -> None:
        if self.cancel.is_set():
            raise Cancelled
        self.messages.put(item)


class Jobs:
    """The running jobs of every page, so that its Cancel button finds them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, set[Reporter]] = defaultdict(set)

    def run(self, owner: str, work: Callable[[Reporter], Any]) -> Iterator[Any]:
        """Run `work(reporter)` in a thread; yield `Busy`s, emitted items and at last a `Result`.

        Stale `Busy`s are dropped. What `work` raises is raised here. Closing the generator cancels the work.
        """
        reporter = Reporter()
        thread = threading.Thread(target=_perform, args=(work, reporter), daemon=True)
        with self._lock:
            self._running[owner].add(reporter)
        thread.start()
        try:
            yield from _follow(reporter)
        finally:
            reporter.cancel.set()
            with self._lock:
                self._running[owner].discard(reporter)
                if not self._running[owner]:
                    del self._running[owner]

    def cancel(self, owner: str) -> bool:
        """Ask the owner's jobs to stop; False if none is running."""
        with self._lock:
            reporters = list(self._running.get(owner, ()))
        for reporter in reporters:
            reporter.cancel.set()
        return bool(reporters)


def _perform(work: Callable[[Reporter], Any], reporter: Reporter) -> None:
    try:
        reporter.messages.put(Result(work(reporter)))
    except BaseException as problem:  # handed to the generator, which raises it where it is dealt with
        reporter.messages.put(problem)


def _follow(reporter: Reporter) -> Iterator[Any]:
    while True:
        busy = None
        for message in _drain(reporter.messages):
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Busy):
                busy = message
                continue
            yield message
            if isinstance(message, Result):
                return
        if busy:
            yield busy
        time.sleep(POLL_SECONDS)


def _drain(messages: queue.SimpleQueue[Any]) -> Iterator[Any]:
    yield messages.get()
    while True:
        try:
            yield messages.get_nowait()
        except queue.Empty:
            return
