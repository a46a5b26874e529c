"""Who uses which model: the newest session of everybody, as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Protocol
from weakref import WeakValueDictionary

from dit_prune_viz import formatting
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import Model

IDLE_SECONDS = 1800.0
"""Who has done nothing for so long gives way to somebody who needs the memory."""


class ModelInUse(UserError):
    """Another model cannot be loaded, because others work with the one that is there."""


class UsesModel(Protocol):
    """A session, which is a module that knows this one."""

    @property
    def model(self) -> Model | None:
        """That it works with."""


class People:
    """Sessions are held weakly: who leaves is forgotten."""

    def __init__(self) -> None:
        self._sessions: WeakValueDictionary[str, UsesModel] = WeakValueDictionary()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def saw(self, person: str, session: UsesModel) -> None:
        """The person works with this session from now on."""
        with self._lock:
            self._sessions[person] = session
            self._seen[person] = time.monotonic()
            for gone in self._seen.keys() - self._sessions.keys():
                del self._seen[gone]

    def newest(self, person: str) -> UsesModel | None:
        """The session that the person works with."""
        return self._sessions.get(person)

    def check_idle(self, models: Collection[Model], person: str | None, wanted: str, busy: Collection[str]) -> None:
        """Refuse to take models away from others who work with them.

        Args:
            models: that would have to go.
            person: who wants another model.
            wanted: its name.
            busy: whose work runs or waits, however long ago it began.

        Raises:
            ModelInUse: says how many there are, and since when they have done nothing.
        """
        now = time.monotonic()
        with self._lock:
            others = {
                one: session.model
                for one, session in self._sessions.items()
                if one != person and session.model in models
            }
            pauses = [0.0 if one in busy else now - self._seen[one] for one in others]
        if min(pauses, default=IDLE_SECONDS) >= IDLE_SECONDS:
            return
        names = ", ".join(dict.fromkeys(model.name for model in others.values()))
        who = formatting.counted(len(others), "other session")
        since = f", the last one {formatting.seconds(min(pauses))} ago" if min(pauses) else ", at this moment"
        raise ModelInUse(
            f"{who} {'uses' if len(others) == 1 else 'use'} {names}{since}, and {wanted} does not fit beside it; "
            "ask them, or start another app."
        )
