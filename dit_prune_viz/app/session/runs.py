"""Earlier comparisons of one page, and A: the plan that is compared with the present one on every page."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.comparison import keep_side, kept_side
from dit_prune_viz.app.session.comparison_result import GAIN, Comparison, scored, with_gain
from dit_prune_viz.app.session.contact_sheet import thumbnail
from dit_prune_viz.app.session.drawn_model import DrawnModel, name_of_session
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress

MAX_RUNS = 12
MAX_BYTES = 4 << 30
"""The masks and updates of all runs together; sessions share those they have in common."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished comparison and all that led to it.

    number: from 1, in the order in which the page made them. session: the snapshot it was made in, whole.
    drawn: what its pruned side was drawn with. thumbnail: of that side, a data URI.
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
    def prompts(self) -> tuple[str, ...]:
        return tuple(request.prompt for request in self.comparison.requests)

    @property
    def at_hand(self) -> DrawnModel | None:
        """What more pictures of it are drawn with; None where that has to be worked out anew, see `saved_work`."""
        return self.drawn if self.drawn.layers or not self.is_plan else None

    @property
    def is_plan(self) -> bool:
        """Whether it was drawn with its session's plan, not with one part of the model alone."""
        return self.drawn.plan is not None and self.drawn.plan is self.session.plan


@dataclass(frozen=True, eq=False)
class Reference:
    """A. drawn: what its pictures are drawn with; None until they are first needed. run: its number, if it is one."""

    name: str
    session: Session
    drawn: DrawnModel | None = None
    run: int | None = None

    @property
    def is_plan(self) -> bool:
        """Whether it is the plan of its session, which the Map can show."""
        return self.drawn is None or self.drawn.plan is not None


class Runs:
    """The runs of one page, the newest first; it lives as long as the page and changes in place, because listeners that
    were triggered at the same time must all see the newest.

    shown: the run whose pictures are on the page. a: the one A of the page, whichever tab it was chosen on. changes:
    how often that changed. gain: of the differences. session: the last that was followed. lock: held while an answer
    about A is worked out, so that what was forgotten meanwhile is not shown again.
    """

    def __init__(self) -> None:
        self.runs: tuple[Run, ...] = ()
        self.shown: Run | None = None
        self.a: Reference | None = None
        self.changes = 0
        self.gain = GAIN
        self.session: Session | None = None
        self.lock = threading.RLock()
        self._last = 0

    def __deepcopy__(self, memo: dict) -> Runs:
        return Runs()  # every page begins with one of its own, and a lock cannot be copied

    def add(self, session: Session, drawn: DrawnModel, comparison: Comparison) -> Run:
        """Put a finished comparison first, and show it. The oldest give way, the one that is A never."""
        self.follow(session)
        self._last += 1
        run = Run(self._last, session, drawn, comparison, thumbnail(comparison.right.images))
        self.runs, self.shown = (run, *self.runs), run
        if self.a is not None and comparison.a is None:
            self._pair_shown()
        while len(self.runs) > MAX_RUNS or self._bytes() > MAX_BYTES:
            spare = [old for old in self.runs[1:] if not self.is_a(old)]
            if not spare:
                break
            self.runs = tuple(old for old in self.runs if old is not spare[-1])
        return self.runs[0]

    def find(self, number: object) -> Run | None:
        """The run of this number; None where it has given way."""
        return next((run for run in self.runs if run.number == number), None)

    def follow(self, session: Session | None) -> bool:
        """Forget the runs and the A of other models, which would stay in memory with them; whether there were any."""
        self.session = session
        model = session.model if session else None
        kept = tuple(run for run in self.runs if run.session.model is model)
        strange = self.a is not None and self.a.session.model is not model
        if len(kept) == len(self.runs) and not strange:
            return False
        self.runs, self.shown, self.a = kept, self.shown if self.shown in kept else None, None
        return True

    def is_a(self, run: Run) -> bool:
        """Whether a run is A."""
        return self.a is not None and self.a.run == run.number

    def make_a(self, number: object) -> None:
        """A run becomes A, or no longer is. What is shown gets A's pictures where they are at hand."""
        run = self.find(number)
        if run is None or self.is_a(run):
            self.a = None
        else:
            self.a = Reference(run.name, run.session, run.at_hand, run.number)
        self._a_changed()

    def bring_back(self, runs: tuple[Run, ...], shown: int | None, a: int | None) -> None:
        """Comparisons of an earlier run of the app, the newest first; those that were made since come before them."""
        known = {run.number for run in self.runs}
        self.runs = (*self.runs, *(run for run in runs if run.number not in known))
        self._last = max([self._last, *(run.number for run in self.runs)])
        if self.shown is None:
            self.shown = self.find(shown)
        if self.a is None and self.find(a) is not None:
            self.make_a(a)

    def keep_as_a(self, session: Session) -> None:
        """A plan becomes A; its pictures are drawn with the next comparison unless a run of it is there."""
        own = next((run for run in self.runs if run.is_plan and run.session.plan is session.plan), None)
        if own is not None:
            self.a = Reference(own.name, session, own.at_hand, own.number)
        else:
            self.a = Reference(name_of_session(session), session)
        self._a_changed()

    def forget_a(self) -> None:
        """There is no A any more."""
        self.a = None
        self._a_changed()

    def reference(self, session: Session, progress: Progress | None = None) -> DrawnModel | None:
        """What A is drawn with in a comparison of the session; None without an A.

        Raises:
            UserError: as in `finishing.finish`, where its recipe has searches or an update to finish.
        """
        self.follow(session)
        a = self.a
        if a is None:
            return None
        if a.drawn is None:
            a = replace(a, drawn=drawn_model.of_session(a.session, progress))
            self.a = a
        run = self.find(a.run)
        if run is not None:
            keep_side(session, a.drawn, run.comparison.requests, run.comparison.right)
        return replace(a.drawn, name=a.name)

    def show(self, run: Run) -> None:
        """Another of the runs is shown, beside the A of now."""
        self.shown = run
        self._pair_shown()

    def set_gain(self, gain: int) -> None:
        """Differences are shown times another number."""
        self.gain = gain
        self._pair_shown()

    def rename(self, session: Session) -> None:
        """The runs of a plan carry the name that it got."""
        name = name_of_session(session)

        def renamed(run: Run) -> Run:
            if not run.is_plan or run.session.plan is not session.plan:
                return run
            done = run.comparison
            b = replace(done.b, side=replace(done.right, name=name))
            return replace(run, session=session, drawn=replace(run.drawn, name=name), comparison=replace(done, b=b))

        shown = self.shown
        new = {run.number: renamed(run) for run in self.runs}
        self.runs = tuple(new.values())
        self.shown = None if shown is None else new.get(shown.number, shown)
        if self.a is not None and self.a.session.plan is session.plan:
            run = self.find(self.a.run)
            self.a = replace(self.a, name=run.name if run else name, session=session)
            self._a_changed()

    def changed(self) -> int:
        """Whoever compares numbers of changes shows all of it anew; the new number."""
        self.changes += 1
        return self.changes

    def at_hand(self, plan: object) -> Run | None:
        """The newest run that was drawn with this very plan."""
        return next((run for run in self.runs if run.is_plan and run.session.plan is plan), None)

    def _a_changed(self) -> None:
        self.changes += 1
        self._pair_shown()

    def _pair_shown(self) -> None:
        """The shown run beside A if A's pictures of the same requests are at hand, else without; at the gain of now."""
        if self.shown is None:
            return
        done, own = self.shown.comparison, None
        if self.a is not None and self.a.drawn is not None:
            drawn = self.reference(self.shown.session)
            side = kept_side(self.shown.session, drawn, done.requests)
            own = scored(replace(side, name=drawn.name), done.dense) if side else None
        done = done if done.gain == self.gain else with_gain(done, self.gain)
        shown = replace(self.shown, comparison=replace(done, a=own))
        self.runs = tuple(shown if old is self.shown else old for old in self.runs)
        self.shown = shown

    @property
    def parts(self) -> dict[int, int]:
        """The bytes of all that the runs hold, by identity: masks, updates and pictures."""
        parts: dict[int, int] = {}
        for run in self.runs:
            parts |= run.drawn.parts
            parts |= {id(side): side.nbytes for side in (run.comparison.dense, run.comparison.right)}
        return parts

    def _bytes(self) -> int:
        parts: dict[int, int] = {}
        for run in self.runs:
            parts |= run.drawn.parts
        return sum(parts.values())


def same_requests(runs: Sequence[Run], run: Run) -> tuple[Run, ...]:
    """Those of the runs that drew the same prompts with the same seed and steps, and so can be compared with it."""
    return tuple(other for other in runs if other.comparison.requests == run.comparison.requests)
