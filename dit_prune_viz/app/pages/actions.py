"""How every button does its work: in a cancellable job, with progress in the top bar and errors as one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dit_prune_viz.app.pages.events import id_of, value_of
from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.pages.updates import bar_updates, error_message, session_updates
from dit_prune_viz.app.session import packed
from dit_prune_viz.app.session.action_log import logged
from dit_prune_viz.app.session.going_on import Work
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.jobs import UNEXPECTED, Busy, GaveWay, Jobs, Queued, Reporter, Result
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.app.session.workspaces import Workspaces, is_id
from dit_prune_viz.errors import Cancelled, UserError

INTERNAL = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "show_progress_on": [],
    "concurrency_limit": None,  # the jobs themselves know what has to wait
}
"""Listeners of the page that are no endpoints; the top bar shows their progress.

Gradio would tell every output of every listener how far it is, even where that is hidden, and looks each of them up in
the whole page whenever any listener begins or ends: a second of a page's opening. `hidden_status.js` spares it the
inputs, for which there is no such setting.
"""

_REST_SECONDS = 0.7
"""A plan rests once it has been the newest for so long."""

Verb = Callable[[Session, Reporter], Session]


@dataclass(frozen=True)
class Frame:
    """The components that every action writes: the user's session, the top bar and its Cancel button.

    shown: the session that a page's views show. It is `session` while the page is open, and catches up when it is
        opened, so that nothing is worked out for views that nobody sees.
    """

    session: gr.State
    bar: gr.HTML
    cancel: gr.Button
    shown: gr.State

    def of_page(self) -> Frame:
        """The same for one page among several."""
        return replace(self, shown=gr.State(None))

    @property
    def outputs(self) -> list[Any]:
        return [self.session, self.bar, self.cancel]


class Actions:
    """What the pages ask for, done in the workspace whose id they send along.

    Gradio hands a listener the session of the moment it was triggered, which may have moved on; the newest is in the
    workspace.
    """

    def __init__(self, jobs: Jobs, startup: Startup, workspaces: Workspaces | None = None) -> None:
        self._jobs, self._startup = jobs, startup
        self.workspaces = workspaces or Workspaces(jobs.cancel)

    def workspace(self, request: gr.Request) -> Workspace:
        """The workspace that a request is about. Without an id it is the page's own, and goes with it."""
        page = request.session_hash
        return self.workspaces.open(id_of(request) or page, page)

    def session(self, session: Session | None) -> Session:
        """The user's session; a new user's is the prepared one, which may have to be waited for."""
        return self._startup.wait() if session is None or self.is_early(session) else session

    def is_early(self, session: Session | None) -> bool:
        """Whether a page shows it until the prepared session is there, so that nothing is done with it."""
        return session is not None and session is self._startup.early

    def prepared(self) -> Session | None:
        """The session that new visitors begin with, None while it is being prepared."""
        return self._startup.prepared()

    def newest(self, request: gr.Request, session: Session | None = None) -> Session | None:
        """The present session of the page's workspace, or else the given one."""
        return self.workspace(request).newest or session

    def newest_of(self, page: str) -> Session | None:
        """The same for a page by gradio's name for it; None for a page that nobody knows."""
        space = self.workspaces.of_page(page)
        return space and space.newest

    def weigh(self, session: Session | None, request: gr.Request) -> Any:
        """The bar again, with the exact packed size of a plan that rests.

        Sizes are estimated while a slider moves, which takes no time.
        """
        space = self.workspace(request)
        if session is None or session.pruned is None or self.is_early(session):
            return gr.skip()
        packed.prepare(session.model)
        time.sleep(_REST_SECONDS)
        if self._rests(space, session):
            packed.measure(session)
        return self.bar(space, session) if self._rests(space, session) else gr.skip()

    def _rests(self, space: Workspace, session: Session) -> bool:
        return (space.newest or session) is session and not self._jobs.busy(space.id)

    def after_viewing(self, request: gr.Request, session: Session) -> tuple:
        """Updates for `Frame.outputs` after work that only looked: the last error stays in the bar, and so does what is
        going on beside it."""
        space = self.workspace(request)
        if self._jobs.busy(space.id):
            return session, gr.skip(), gr.skip()
        return session, self.bar(space, session), gr.Button(visible=False)

    def run(
        self, request: gr.Request, session: Session | None, verb: Verb, step: str | None = "the last change"
    ) -> Iterator[tuple]:
        """For the page: updates for `Frame.outputs` while `verb` runs, the new session at the end."""
        for update in self.watch(request, session, verb, step):
            if isinstance(update, Result):
                yield session_updates(update.value)
            elif isinstance(update, tuple):
                yield update

    def settle(self, session: Session | None, request: gr.Request) -> Session | None:
        """The present session for all views, once nothing moves any more."""
        return self.newest(request, session)

    def answer(
        self,
        request: gr.Request,
        session: Session | None,
        verb: Verb,
        answer: Callable[[bool], Any],
        step: str | None = "the last change",
    ) -> Iterator[tuple]:
        """Like `run` for a component whose script waits for an answer: one more update at the end, whatever happens,
        `answer(changed)`, which says whether the session is another one."""
        changed = False

        def work(session: Session, report: Reporter) -> Session:
            nonlocal changed
            after = verb(session, report)
            changed = after is not session
            return after

        refused = (gr.skip(), gr.skip(), gr.skip(), answer(False))
        try:
            for update in self.watch(request, session, work, step):
                if isinstance(update, Result):
                    yield (*session_updates(update.value), answer(changed))
                    return
                yield (*update, gr.skip())
        except Exception:
            yield refused
            raise
        yield refused

    def watch(
        self,
        request: gr.Request,
        session: Session | None,
        work_on: Callable[[Session, Reporter], Any],
        step: str | None = "the last change",
        *,
        gives_way: bool = False,
        looks: bool = False,
        kept: str = "Cancelled; nothing has changed.",
    ) -> Iterator[Any]:
        """Like `run` for any work: bar updates as tuples for `Frame.outputs`, everything else as it comes.

        The work gets the workspace's newest session, and ends there even if the page is gone. If it returns a session,
        that one is the newest from then on, and `step` is what can be undone (see `History.step`); None is for work
        that leaves nothing to undo. Work that `gives_way` raises GaveWay where the person does something else
        meanwhile. Work that `looks` reads weights and groups them: it does not wait for what else the page does, nor
        hold it up. `kept` is said of work that was cancelled.
        """
        space = self.workspace(request)
        line = _looks_of(space.id) if looks else space.id
        work = Work(request.session_hash, line)
        updates = self._perform(space, line, session, work_on, step, gives_way=gives_way, looks=looks, kept=kept)
        self.workspaces.watch_over()
        try:
            for update in space.begin(work, updates):
                if isinstance(update, Queued) or (isinstance(update, Busy) and looks and self._jobs.busy(space.id)):
                    yield gr.skip(), gr.skip(), gr.skip()
                elif isinstance(update, Busy):
                    yield gr.skip(), self.bar(space, session, update), gr.Button(visible=True)
                else:
                    yield update
        except GaveWay:
            raise
        except Cancelled:
            yield bar_updates(space.newest or session, kept)
        except UserError as problem:
            yield bar_updates(space.newest or session, str(problem))
            raise error_message(problem, shown=False) from problem
        except Exception:  # a fault of the app's own: the page must not stay busy, the terminal gets the traceback
            yield bar_updates(space.newest or session, UNEXPECTED)
            raise

    def _perform(
        self,
        space: Workspace,
        line: str,
        session: Session | None,
        work: Callable[[Session, Reporter], Any],
        step: str | None,
        *,
        gives_way: bool,
        looks: bool,
        kept: str,
    ) -> Iterator[Any]:
        """The work's updates. All that it leaves in the workspace is done here, where no page is needed for it."""
        before: Session | None = None

        def begin(report: Reporter) -> Any:
            nonlocal before
            if step is not None:
                space.problem = space.notice = None
            report.follow(self._startup.watch())
            before = space.newest or self.session(session)
            before.store.people.saw(space.id, before)
            after = work(before, report)
            other = isinstance(after, Session) and after.model is not before.model
            return self.workspaces.recall(space, after, report) if other else after

        try:
            with logged(work, space.id):
                for update in self._jobs.run(line, begin, gives_way=gives_way):
                    if isinstance(update, Result) and isinstance(update.value, Session):
                        after = space.step(before, update.value, step, looks=looks)
                        after.store.people.saw(space.id, after)
                        yield Result(after)
                    else:
                        yield update
        except GaveWay:
            raise
        except Cancelled:
            space.problem = kept
            raise
        except UserError as problem:
            space.problem = str(problem)
            raise
        except Exception:
            space.problem = UNEXPECTED
            raise
        finally:
            self.workspaces.changed(space)

    @staticmethod
    def bar(space: Workspace, session: Session | None, busy: Busy | None = None) -> str:
        """The bar of a workspace; `session` is that of a page, for a workspace in which nothing was done."""
        keeps_going = space.goes_on if is_id(space.id) else None
        session = space.newest or session
        return topbar.render(session, busy, space.problem, notice=space.notice, keeps_going=keeps_going)

    def keep_going(self, request: gr.Request, event: gr.EventData) -> Any:
        """For the bar's button: the workspace's work is to go on when nobody looks, or no longer."""
        space = self.workspace(request)
        space.goes_on = value_of(event, "keeps") is True
        busy = next((work.busy for work in space.works if work.busy), None)
        return gr.skip() if busy is None else self.bar(space, self.prepared(), busy)

    def prepare(self, request: gr.Request) -> Iterator[tuple]:
        """For a page that opens: the progress of the preparation, then its session.

        In between comes a session that shows what is known so far. All visitors share the preparation, so that none of
        them may cancel it.
        """
        shown = None
        for busy in self._startup.watch():
            early = self._startup.early
            yield gr.skip() if early is shown else early, topbar.render(early, busy), gr.skip()
            shown = early
        space = self.workspace(request)
        session = space.newest or self._startup.wait()
        if self.workspaces.recalls(space, session):

            def recall(now: Session, report: Reporter) -> Session:
                return self.workspaces.recall(space, now, report)

            yield from self.run(request, session, recall, step="bringing back saved work")
            session = space.newest or session
        else:
            self.workspaces.tell_of_others(space, session)
        space.problem = space.problem or self._startup.problem
        yield session, self.bar(space, session), gr.skip()
        self._startup.visited()

    def undo(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """For the page's button: back to the session before the last step."""
        yield from self._travel(session, request, History.undo)

    def redo(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """For the page's button: the step undone last, done again."""
        yield from self._travel(session, request, History.redo)

    def _travel(
        self, session: Session, request: gr.Request, way: Callable[[History, Reporter], Session | None]
    ) -> Iterator:
        space = self.workspace(request)
        space.problem = None
        yield from self.run(request, session, lambda now, report: way(space.history, report) or now, step=None)

    def undo_buttons(self, request: gr.Request) -> tuple[gr.Button, gr.Button]:
        """The buttons Undo and Redo, each usable if there is something to do."""
        return tuple(gr.Button(interactive=name is not None) for name in self.workspace(request).history.names)

    def cancel(self, request: gr.Request) -> None:
        """For the page's button: stop all work of its workspace, whichever page asked for it."""
        id = self.workspace(request).id
        for line in (id, _looks_of(id)):
            self._jobs.cancel(line)

    def leave(self, request: gr.Request) -> None:
        """For a page that is closed: what its workspace holds stays, and its work goes on for a while."""
        self.workspaces.leave(request.session_hash)


def _looks_of(owner: str) -> str:
    """The line of a workspace's work that only looks."""
    return f"{owner} looks"
