"""Undo and redo: the sessions of one page, of which exactly one is the present."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from dit_prune_viz.app.session.session import Session

STEPS = 50
MAX_BYTES = 1 << 30
"""Of masks that only the history still holds; older steps go first."""

PAUSE_SECONDS = 1.5
"""Moves of one slider with shorter pauses between them are one step."""


class History:
    """Past and future sessions around the present one."""

    def __init__(self) -> None:
        self.present: Session | None = None
        self._past: deque[tuple[str, Session]] = deque()
        self._future: list[tuple[str, Session]] = []
        self._last: tuple[str, float] | None = None

    def step(self, before: Session, after: Session, what: str | None) -> None:
        """Move on to `after`. `what` names the step, in words; None leaves no trace: nothing of the work was changed.

        Steps of the same name ending in "…" follow each other as one while the pauses are short.
        """
        self.present = after
        if after.model is not before.model:  # undoing goes one model back; older ones would only take memory
            near = (before.model, after.model)
            self._past = deque(step for step in self._past if step[1].model in near)
        if what is None or after is before:
            return
        now = time.monotonic()
        flowing = what.endswith("…") and self._last is not None and self._last[0] == what
        if not (flowing and now - self._last[1] < PAUSE_SECONDS and self._past):
            self._past.append((what, before))
        self._last = (what, now)
        self._future.clear()
        while len(self._past) > STEPS or (len(self._past) > 1 and self._bytes() > MAX_BYTES):
            self._past.popleft()

    def undo(self) -> Session | None:
        """The session before the last step, present from now on; None if there is none."""
        if not self._past or self.present is None:
            return None
        what, session = self._past.pop()
        self._future.append((what, self.present))
        return self._turn_to(session)

    def redo(self) -> Session | None:
        """The session after the step undone last; None if there is none."""
        if not self._future or self.present is None:
            return None
        what, session = self._future.pop()
        self._past.append((what, self.present))
        return self._turn_to(session)

    def _turn_to(self, session: Session) -> Session:
        """The session as the present, with the clusters of layers that were only looked at since then."""
        self.present, self._last = bring_back(session, self.present), None
        return self.present

    @property
    def names(self) -> tuple[str | None, str | None]:
        """What would be undone, and what redone."""
        return (self._past[-1][0] if self._past else None), (self._future[-1][0] if self._future else None)

    def _bytes(self) -> int:
        """Bytes of the masks in the past that the present does not share."""
        mine = _masks([self.present])
        return sum(size for key, size in _masks(session for _, session in self._past).items() if key not in mine)


def bring_back(then: Session, now: Session) -> Session:
    """An earlier session with the clusters of layers that were only looked at since then."""
    if now.model is not then.model or now.calibration is not then.calibration:
        return then
    return replace(then, clusters={**now.clusters, **then.clusters}, asked={**now.asked, **then.asked})


def _masks(sessions: Iterable[Session]) -> dict[int, int]:
    return {id(mask): mask.bits.numel() for session in sessions for mask in session.masks.values()}
