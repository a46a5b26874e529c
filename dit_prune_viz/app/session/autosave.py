"""Workspaces are saved a moment after they have changed, and come back when the app was started anew."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from dit_prune_viz.app.session.saved_work import restore, values_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.state_folder import StateFolder
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.errors import Progress, UserError

PAUSE_SECONDS = 1.0
"""Changes that follow each other faster are saved together."""
_LOG = logging.getLogger("dit_prune_viz.autosave")


class Autosave:
    """Saves workspaces in a thread of its own. `folder`: where."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._waiting: dict[str, Workspace] = {}
        self._changed, self._saving = threading.Condition(), threading.Lock()
        self._thread: threading.Thread | None = None

    def changed(self, space: Workspace) -> None:
        """Save a workspace soon."""
        with self._changed:
            self._waiting[space.id] = space
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="autosave", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Save now what waits."""
        with self._saving:
            with self._changed:
                spaces, self._waiting = list(self._waiting.values()), {}
            for space in spaces:
                try:
                    self._save(space)
                except Exception:  # a full disk, or a fault: nobody's work may stop for it
                    _LOG.warning("a session could not be saved", exc_info=True)

    def has(self, space: Workspace, session: Session) -> bool:
        """Whether there was work on a session's model before the workspace began; not once it is brought back."""
        if session.model.fingerprint in space.recalled:
            return False
        if self._find(space, session) is not None:
            return True
        space.recalled.add(session.model.fingerprint)  # what is saved from now on is the workspace's own
        return False

    def others(self, space: Workspace, session: Session) -> tuple[str, ...]:
        """The names of other models on which the workspace has work."""
        return self._folder.others(space.id, session.model.fingerprint)

    def recall(self, space: Workspace, session: Session, progress: Progress | None = None) -> Session:
        """The session with the work that was saved for its model, whose comparisons join the workspace.

        Where it cannot be read the session stays as it is, and the workspace's notice says so.
        """
        space.recalled.add(session.model.fingerprint)
        values = self._find(space, session)
        if values is None:
            return session
        when = _clock(values.get("saved"))
        if progress:
            progress(0, 1, f"Bringing back your work of {when}")
        try:
            found = restore(values, session, self._folder.pictures(space.id).load, progress)
        except UserError as problem:
            space.notice = str(problem)
            return session
        space.runs.bring_back(found.runs, found.shown, found.a)
        space.notice = f"Your work of {when} is back; Undo takes the plan away again."
        return found.session

    def _find(self, space: Workspace, session: Session) -> dict | None:
        return self._folder.find(space.id, session.model.fingerprint)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            time.sleep(PAUSE_SECONDS)
            self.flush()

    def _save(self, space: Workspace) -> None:
        session = space.newest
        if session is None or session.model is None or self.has(space, session):
            return  # what was saved before comes first
        pictures = self._folder.pictures(space.id)
        with suppress(UserError):  # a plan that cannot be told
            values = values_of(session, space.runs, pictures.keep)
            if values is not None:
                self._folder.write(space.id, session.model.fingerprint, values)
                pictures.remove_others()


def _clock(saved: object) -> str:
    """ "14:05", with the day where that is another one."""
    if not isinstance(saved, int | float) or isinstance(saved, bool) or not 0 < saved < 1e11:
        return "before"
    then, now = time.localtime(saved), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%-d %B, %H:%M", then)
