"""Earlier comparisons of one page: what to go back to, and the one that is pinned as the left side."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dit_prune_viz.app.session.comparison import Comparison, keep_side, kept_side, measure
from dit_prune_viz.app.session.contact_sheet import thumbnail
from dit_prune_viz.app.session.drawn_model import DENSE, DrawnModel
from dit_prune_viz.app.session.session import Session

MAX_RUNS = 12
MAX_BYTES = 4 << 30
"""The masks and updates of all runs together; sessions share those they have in common."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished comparison and all that led to it.

    number: from 1, in the order in which the page made them. session: the snapshot it was made in, whole.
    drawn: what its right side was drawn with. thumbnail: of its right side, a data URI.
    """

    number: int
    session: Session
    drawn: DrawnModel
    comparison: Comparison
    thumbnail: str

    @property
    def name(self) -> str:
        return f"run {self.number} ({self.drawn.name})"

    @property
    def as_left(self) -> DrawnModel:
        """Its masks for the left side, named after the run."""
        return replace(self.drawn, name=self.name)

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(request.prompt for request in self.comparison.requests)


class Runs:
    """The runs of one page, the newest first; it lives as long as the page and changes in place, because listeners that
    were triggered at the same time must all see the newest.

    shown: the run whose pictures are on the page. pinned: the run on the left side of the next one.
    """

    def __init__(self) -> None:
        self.runs: tuple[Run, ...] = ()
        self.shown: Run | None = None
        self.pinned: Run | None = None
        self._last = 0

    def add(self, session: Session, drawn: DrawnModel, comparison: Comparison) -> Run:
        """Put a finished comparison first, and show it. The oldest give way, the pinned one never."""
        self.follow(session)
        self._last += 1
        run = Run(self._last, session, drawn, comparison, thumbnail(comparison.right.images))
        self.runs, self.shown = (run, *self.runs), run
        while len(self.runs) > MAX_RUNS or self._bytes() > MAX_BYTES:
            spare = [old for old in self.runs[1:] if old is not self.pinned]
            if not spare:
                break
            self.runs = tuple(old for old in self.runs if old is not spare[-1])
        return run

    def find(self, number: object) -> Run | None:
        """The run of this number; None where it has given way."""
        return next((run for run in self.runs if run.number == number), None)

    def follow(self, session: Session | None) -> bool:
        """Forget the runs of other models, which would stay in memory with them; whether there were any."""
        model = session.model if session else None
        kept = tuple(run for run in self.runs if run.session.model is model)
        if len(kept) == len(self.runs):
            return False
        self.runs, self.shown, self.pinned = kept, None, None
        return True

    def left(self, session: Session) -> DrawnModel:
        """What the left side of the session's next comparison is drawn with: the pinned run's masks, else none."""
        self.follow(session)
        if self.pinned is None:
            return DENSE
        done = self.pinned.comparison
        keep_side(session, self.pinned.as_left, done.requests, replace(done.right, name=self.pinned.name))
        return self.pinned.as_left

    def pin(self, number: object) -> None:
        """Pin a run, or take the pin out of it; what is shown is paired anew where both its sides are at hand."""
        chosen = self.find(number)
        self.pinned = None if chosen is None or self._is_pinned(chosen) else chosen
        if self.shown is None or (self.pinned and self._is_pinned(self.shown)):
            return
        shown, done = self.shown, self.shown.comparison
        left = kept_side(shown.session, self.left(shown.session), done.requests)
        if left is not None:
            paired = measure(left, done.right, done.requests, done.clip_name, done.seconds)
            self._replace(shown, replace(paired, unread=done.unread))

    def _is_pinned(self, run: Run) -> bool:
        return self.pinned is not None and run.number == self.pinned.number

    def _replace(self, run: Run, comparison: Comparison) -> None:
        self.shown = replace(run, comparison=comparison)
        self.runs = tuple(self.shown if old is run else old for old in self.runs)

    def _bytes(self) -> int:
        parts: dict[int, int] = {}
        for run in self.runs:
            parts |= run.drawn.parts
        return sum(parts.values())
