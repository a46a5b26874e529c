"""A job that goes on whether or not the page that asked for it is still there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dit_prune_viz.app.session.jobs import Busy, Result


class Work:
    """One job of a workspace. Its updates are pumped by a thread of its own; whoever asked for it may follow them.

    Args:
        page: the page that asked for it.
        line: the line of the job, by which it is cancelled.

    Attributes:
        busy: how far it is; None before it says so.
        watched: whether the page that asked still follows.
    """

    def __init__(self, page: str | None, line: str) -> None:
        self.page, self.line = page, line
        self.busy: Busy | None = None
        self.watched = True
        self.over = threading.Event()
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self, updates: Iterator[Any], ended: Callable[[], None]) -> None:
        """Pump `updates` in a thread; `ended` is called there once there are no more, before the last is handed out."""
        threading.Thread(target=self._pump, args=(updates, ended), name="work", daemon=True).start()

    def follow(self) -> Iterator[Any]:
        """The updates as they come; raises what the job raises. Closing it leaves the job to itself."""
        try:
            while True:
                message = self._messages.get()
                if isinstance(message, BaseException):
                    raise message
                yield message
                if isinstance(message, Result):
                    return
        finally:
            self.watched = False

    def _pump(self, updates: Iterator[Any], ended: Callable[[], None]) -> None:
        last: Any = None
        try:
            for update in updates:
                if isinstance(update, Result):
                    last = update
                    continue
                if isinstance(update, Busy):
                    self.busy = update
                if self.watched:  # nobody reads what is drawn on the way once the page is gone
                    self._messages.put(update)
        except BaseException as problem:  # handed to the page, which deals with it
            last = problem
        self.over.set()
        ended()
        self._messages.put(last)
