"""What each person works on, under an id of its own: it outlives the connection, and whoever has the id finds it."""

from __future__ import annotations

import atexit
import re
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dit_prune_viz.app.session.autosave import Autosave
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.state_folder import StateFolder
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.errors import Progress

HEADER, QUERY = "x-dit-prune-viz-session", "session"
"""Where a request carries the id."""
GONE_SECONDS = 30.0
"""Work that nobody has looked at for so long is stopped: whoever asked for it is gone without a word."""
SILENT_SECONDS = 300.0
"""For how long a client that sends no id and keeps no connection may do nothing before what it holds is given up."""
MOST = 64
MAX_BYTES = 4 << 30
KEPT_SECONDS = 24 * 3600
"""A workspace in which nobody has looked for so long is given up."""
_TICK_SECONDS = 1.0
_ID = re.compile(r"[A-Za-z0-9_-]{32}")


def new_id() -> str:
    """An id that nobody can guess: 192 random bits."""
    return secrets.token_urlsafe(24)


def is_id(text: object) -> bool:
    """Whether a text could be an id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def sent_id(headers: Mapping[str, str] | None, query: Mapping[str, str] | None = None) -> str | None:
    """The id that a request carries, in its header or its address; None for none, and for what is no id."""
    for given in ((headers or {}).get(HEADER), (query or {}).get(QUERY)):
        if is_id(given):
            return given
    return None


def open_workspaces(cancel: Callable[[str], Any], state: StateFolder | None) -> Workspaces:
    """Those of an app: saved in a folder, where there is one, until the program ends.

    Args:
        cancel: stops a line of jobs.
        state: where they are saved; None saves nothing.
    """
    if state is None:
        return Workspaces(cancel)
    autosave = Autosave(state)
    atexit.register(autosave.flush)
    return Workspaces(cancel, autosave)


class Workspaces:
    """All workspaces of one app, by id. Those used least recently give way, never one where somebody works or looks.

    Args:
        cancel: stops a line of jobs.
        autosave: where they are saved; None saves nothing.
        most: how many there are, at most.
        nbytes: of all of them together, at most.

    Attributes:
        alone_seconds: for how long nobody looks before work is stopped, and for how long a page without an id may be
            gone.
        forget: called with the name of such a page when it is given up.
    """

    def __init__(
        self,
        cancel: Callable[[str], Any],
        autosave: Autosave | None = None,
        most: int = MOST,
        nbytes: int = MAX_BYTES,
    ) -> None:
        self.autosave = autosave
        self._cancel, self._most, self._nbytes = cancel, most, nbytes
        self._by_id: OrderedDict[str, Workspace] = OrderedDict()
        self._of_page: dict[str, str] = {}
        self._lock = threading.RLock()
        self._connected: Counter[str] = Counter()
        self._left: dict[str, float] = {}  # when what a page without an id holds is given up
        self._guard: threading.Thread | None = None
        self.alone_seconds = GONE_SECONDS
        self.forget: Callable[[str], Any] = lambda page: None

    def find(self, id: str) -> Workspace | None:
        """The workspace of an id, None where there is none."""
        with self._lock:
            return self._by_id.get(id)

    def newest(self, id: str) -> Session | None:
        """The present session of an id; None where there is none, or nothing was done in it."""
        space = self.find(id)
        return space and space.newest

    def open(self, id: str, page: str | None = None) -> Workspace:
        """The workspace of an id, made where it is new, and used from now on; `page` looks into it."""
        with self._lock:
            space = self._by_id.get(id)
            if space is None:
                space = self._by_id[id] = Workspace(id)
                self._trim(space)
            self._by_id.move_to_end(id)
            space.used = time.monotonic()
            if page is not None:
                self._of_page[page] = id
                space.look(page)
            return space

    def of_page(self, page: str) -> Workspace | None:
        """The workspace into which a page has looked last."""
        with self._lock:
            return self._by_id.get(self._of_page.get(page, ""))

    def connect(self, page: str) -> None:
        """A page opens a connection that stays open while it is there, perhaps once more after a gap."""
        with self._lock:
            self._connected[page] += 1
            self._left.pop(page, None)
            space = self.of_page(page)
            if space is not None:
                space.look(page).open = True

    def disconnect(self, page: str) -> None:
        """One such connection has ended."""
        with self._lock:
            self._connected[page] -= 1
            if self._connected[page] <= 0:
                del self._connected[page]

    def leave(self, page: str) -> None:
        """A page is closed, or its connection broke. It may come back; nothing that only this page wanted goes on."""
        with self._lock:
            if self._connected[page] > 1:  # it is back already
                return
            space = self.of_page(page)
            if space is not None:
                space.leave(page)
            if space is None or not is_id(space.id):  # nobody else can find what it holds
                self._left[page] = time.monotonic() + self.alone_seconds
                for work in space.works if space else ():
                    self._cancel(work.line)
        self.watch_over()

    @contextmanager
    def serving(self, page: str) -> Iterator[None]:
        """While a call of a client without an id runs. One that keeps no connection may pause between two calls."""
        with self._lock:
            self._left.pop(page, None)
        try:
            yield
        finally:
            with self._lock:
                if page not in self._connected:
                    self._left[page] = time.monotonic() + SILENT_SECONDS
            self.watch_over()

    def changed(self, space: Workspace) -> None:
        """Something was done in a workspace. One without an id that could be sent is not saved."""
        if self.autosave is not None and is_id(space.id):
            self.autosave.changed(space)

    def recalls(self, space: Workspace, session: Session | None) -> bool:
        """Whether work was saved for the model of a session that is not back yet."""
        known = self.autosave is not None and is_id(space.id) and session is not None and session.model is not None
        return known and self.autosave.has(space, session)

    def recall(self, space: Workspace, session: Session, progress: Progress | None = None) -> Session:
        """The session with the work that was saved for its model when the app ran before; itself where there is none.
        See `Autosave.recall`."""
        return self.autosave.recall(space, session, progress) if self.recalls(space, session) else session

    def tell_of_others(self, space: Workspace, session: Session | None) -> None:
        """Where nothing was done in a workspace yet: its notice names the other models on which it has saved work."""
        untouched = self.autosave is not None and is_id(space.id) and space.newest is None
        names = self.autosave.others(space, session) if untouched and session and session.model else ()
        if names:
            space.notice = f"You have saved work on {', '.join(names)}: load that model, and it comes back."

    def watch_over(self) -> None:
        """Give up what nobody has looked at for a while; to be called when work begins, and when a page is closed."""
        with self._lock:
            if self._guard is None:
                self._guard = threading.Thread(target=self._stop_abandoned, name="abandoned work", daemon=True)
                self._guard.start()

    def trim(self) -> None:
        """Let go of what exceeds the bounds."""
        with self._lock:
            self._trim(None)

    def _stop_abandoned(self) -> None:
        while True:
            time.sleep(_TICK_SECONDS)
            with self._lock:
                spaces = [space for space in self._by_id.values() if space.works]
                if not spaces and not self._left:
                    self._guard = None
                    return
                for page in [page for page, end in self._left.items() if time.monotonic() > end]:
                    del self._left[page]
                    self._of_page.pop(page, None)
                    self._by_id.pop(page, None)
                    self.forget(page)
            for space in spaces:
                if not space.goes_on and space.alone() > self.alone_seconds:
                    for work in space.works:
                        self._cancel(work.line)

    def _trim(self, keep: Workspace | None) -> None:
        now = time.monotonic()
        for space in self._by_id.values():
            for page in space.forget_pages(now - KEPT_SECONDS):
                self._of_page.pop(page, None)
        for id, space in list(self._by_id.items()):
            alone = space.alone(now)
            if space is keep or space.works or alone <= self.alone_seconds:
                continue
            if alone > KEPT_SECONDS or len(self._by_id) > self._most or self._bytes() > self._nbytes:
                del self._by_id[id]
        self._of_page = {page: id for page, id in self._of_page.items() if id in self._by_id}

    def _bytes(self) -> int:
        parts: dict[int, int] = {}
        for space in self._by_id.values():
            parts |= space.parts
        return sum(parts.values())
