"""One person's work: it outlives every connection, and several pages may show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dit_prune_viz.app.session.analyzer import Findings
from dit_prune_viz.app.session.going_on import Work
from dit_prune_viz.app.session.history import History, with_looks
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Measured


@dataclass
class Page:
    """One page that shows a workspace.

    seen: when it asked for something last. open: whether it is connected. behind: whether something has happened in the
    workspace that it was not told.
    """

    seen: float
    open: bool = True
    behind: bool = False


class Workspace:
    """One person's work: sessions with their history, comparisons, measurements, and the jobs that go on.

    Attributes:
        id: never to be logged or shown to anybody else.
        history: past, present and future sessions.
        problem: the sentence of the last thing that went wrong, until something else is asked for.
        notice: something to be told once.
        runs: the comparisons.
        findings, paints: of the parts, on the Compare page and on the Layer page.
        measured: the rows of the trade-off.
        recalled: the fingerprints of models whose saved work was looked for.
        goes_on: whether work is to go on when nobody looks.
        lock: held while the history moves on.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.history = History()
        self.problem: str | None = None
        self.notice: str | None = None
        self.runs, self.findings, self.paints = Runs(), Findings(), Findings()
        self.measured = Measured()
        self.recalled: set[str] = set()
        self.goes_on = False
        self.lock = threading.Lock()
        self.used = time.monotonic()
        self._works: list[Work] = []
        self._pages: dict[str, Page] = {}

    @property
    def newest(self) -> Session | None:
        """The present session; None before anything was done."""
        return self.history.present

    @property
    def works(self) -> tuple[Work, ...]:
        """The jobs that go on."""
        return tuple(self._works)

    @property
    def parts(self) -> dict[int, int]:
        """The bytes of masks and pictures, by identity: workspaces share what they have in common."""
        return {**self.history.parts, **self.runs.parts}

    def step(self, before: Session, after: Session, what: str | None, *, looks: bool = False) -> Session:
        """Move on from `before` to `after`, or to what both of these and the work that ended meanwhile lead to.

        Args:
            before: where the work began.
            after: where it led.
            what: of the step, as in `History.step`.
            looks: whether it only looked, beside work of another line.

        Returns:
            The newest session.
        """
        with self.lock:
            now = self.newest or before
            if now is not before and after is not before:
                after = with_looks(now, before, after) if looks else with_looks(after, before, now)
            self.history.step(now if looks else before, after, what)
        return after

    def look(self, page: str) -> Page:
        """A page asks for something."""
        self.used = time.monotonic()
        found = self._pages.setdefault(page, Page(self.used))
        found.seen = self.used
        return found

    def leave(self, page: str) -> None:
        """A page is no longer connected; it may come back."""
        found = self._pages.get(page)
        if found is not None:
            found.open, found.seen = False, time.monotonic()
        self.unwatch(page)

    def unwatch(self, page: str) -> None:
        """A page does not hear any more of what it has asked for."""
        for work in self.works:
            if work.page == page:
                work.watched = False

    def alone(self, now: float | None = None) -> float:
        """For how many seconds nobody has looked."""
        now = time.monotonic() if now is None else now
        pages = list(self._pages.values())
        if any(page.open for page in pages):
            return 0.0
        return now - max((page.seen for page in pages), default=self.used)

    def begin(self, work: Work, updates: Iterator[Any], changes: bool = True) -> Iterator[Any]:
        """Let a job go on, and follow it. `changes`: whether the other pages are to hear of its end."""
        self._works.append(work)

        def ended() -> None:
            self._works.remove(work)
            if not self._works:
                self.goes_on = False
            if changes:
                self.tell_others(work.page if work.watched else None)

        work.start(updates, ended)
        return work.follow()

    def tell_others(self, page: str | None) -> None:
        """Something has changed that every page but this one has yet to hear of."""
        self.used = time.monotonic()
        for name, other in list(self._pages.items()):
            other.behind = other.behind or name != page

    def unheard(self, page: str | None) -> Work | None:
        """A job of which a page hears nothing by itself, the oldest."""
        return next((work for work in self.works if work.page != page or not work.watched), None)

    def forget_pages(self, before: float) -> list[str]:
        """Forget pages that were not seen since a moment and are not connected; their names."""
        gone = [name for name, page in self._pages.items() if not page.open and page.seen < before]
        for name in gone:
            del self._pages[name]
        return gone
