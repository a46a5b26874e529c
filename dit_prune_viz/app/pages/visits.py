"""A page that opens, comes back or looks again: it is shown what its workspace holds, and what still goes on there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.session.analyzer import Findings
from dit_prune_viz.app.session.jobs import Busy
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.tradeoff import Measured
from dit_prune_viz.app.session.workspace import Workspace

_TICK_SECONDS = 0.3


@dataclass(frozen=True)
class Kept:
    """What a page has of its workspace beside the session. All but `measured` change in place.

    runs: the comparisons, for all tabs. a: changes whenever another plan becomes A, so that listeners hear of it, and
    when the runs are to be shown anew. findings, paints: of the parts, on the Compare and the Layer page. measured: the
    trade-off's rows. again: changes when these three are to be shown anew.
    """

    runs: gr.State
    a: gr.State
    findings: gr.State
    paints: gr.State
    measured: gr.State
    again: gr.State

    @classmethod
    def states(cls) -> Kept:
        """Those of a page, inside the current gradio context."""
        return cls(*map(gr.State, (Runs(), 0, Findings(), Findings(), Measured(), 0)))

    @property
    def outputs(self) -> list[gr.State]:
        return [self.runs, self.a, self.findings, self.paints, self.measured, self.again]


class Visits:
    """The listeners of a page that looks at its workspace; their updates are for `Frame.outputs` and `Kept.outputs`."""

    def __init__(self, frame: Frame, kept: Kept, actions: Actions) -> None:
        self._actions = actions
        self._numbers = itertools.count(1)
        self._still = (gr.skip(),) * len(frame.outputs), (gr.skip(),) * len(kept.outputs)

    def open(self, request: gr.Request) -> Iterator[tuple]:
        """For a page that opens, or whose connection was broken: all there is, then what still goes on."""
        space, page = self._actions.workspace(request), request.session_hash
        space.look(page).behind = False
        kept = self._show(space)
        for updates in self._actions.prepare(request):
            yield (*updates, *kept)
            kept = self._still[1]
        yield from self._follow(space, page)

    def look(self, a: int, request: gr.Request) -> Iterator[tuple]:
        """For a page that is there already: what has happened elsewhere since it was told last, if anything."""
        space = self._actions.workspace(request)
        page = space.look(request.session_hash)
        if page.behind:
            page.behind = False
            yield self._newest(space)
        elif a != space.runs.changes:
            bar, kept = self._still
            yield (*bar, kept[0], space.runs.changes, *kept[2:])
        else:
            yield tuple(itertools.chain(*self._still))
        yield from self._follow(space, request.session_hash)

    def _follow(self, space: Workspace, page: str) -> Iterator[tuple]:
        """The progress of jobs of which the page hears nothing by itself, and what came of them."""
        if space.unheard(page) is None:
            return
        while (work := space.unheard(page)) is not None:
            busy = work.busy or Busy(0, 1, "Working")
            yield (
                gr.skip(),
                self._actions.bar(space, self._actions.prepared(), busy),
                gr.Button(visible=True),
                *self._still[1],
            )
            work.over.wait(_TICK_SECONDS)
        space.look(page).behind = False
        yield self._newest(space)

    def _newest(self, space: Workspace) -> tuple:
        session = space.newest
        bar = gr.skip() if session is None else self._actions.bar(space, session)
        return gr.skip() if session is None else session, bar, gr.Button(visible=False), *self._show(space)

    def _show(self, space: Workspace) -> tuple:
        """Updates for `Kept.outputs`; only what there is is shown."""
        runs = space.runs
        changes = runs.changed() if runs.runs or runs.a else gr.skip()
        found = space.findings.found or space.paints.found or space.measured.rows
        number = next(self._numbers) if found else gr.skip()
        measured = space.measured if space.measured.rows else gr.skip()
        return runs, changes, space.findings, space.paints, measured, number
