"""How every button does its work: in a cancellable job, with progress in the top bar and mistakes as one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.ui import topbar
from dit_prune_viz.ui.jobs import Busy, Jobs, Reporter, Result
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.startup import Startup

MODEL_WORK = {"concurrency_id": "model", "concurrency_limit": 1}
"""Listeners that work on the model share this queue: one at a time."""

INTERNAL = {"api_visibility": "private", "show_progress": "hidden"}
"""Listeners of the page that are no endpoints; the top bar shows their progress."""

UNEXPECTED = "Something unexpected went wrong; nothing has changed, and the terminal says more."

Verb = Callable[[Session, Reporter], Session]


@dataclass(frozen=True)
class Frame:
    """The components that every action writes: the user's session, the top bar and its Cancel button."""

    session: gr.State
    bar: gr.HTML
    cancel: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.session, self.bar, self.cancel]


class Actions:
    def __init__(self, jobs: Jobs, startup: Startup) -> None:
        self._jobs, self._startup = jobs, startup

    def session(self, session: Session | None) -> Session:
        """The user's session; a new user's is the prepared one, which may have to be waited for."""
        return session if session is not None else self._startup.wait()

    def call(self, session: Session | None, verb: Callable[[Session], Any]) -> Any:
        """For the API: run a verb here and now, a UserError becoming the client's error."""
        try:
            return verb(self.session(session))
        except UserError as problem:
            raise mistake(problem) from problem

    def run(self, request: gr.Request, session: Session | None, verb: Verb) -> Iterator[tuple]:
        """For the page: updates for `Frame.outputs` while `verb` runs, the new session at the end."""
        session = self.session(session)
        for update in self.watch(request, session, lambda report: verb(session, report)):
            if isinstance(update, Result):
                yield done(update.value)
            elif isinstance(update, tuple):
                yield update

    def watch(self, request: gr.Request, session: Session, work: Callable[[Reporter], Any]) -> Iterator[Any]:
        """Like `run` for any work: bar updates as tuples for `Frame.outputs`, everything else as it comes."""
        try:
            for update in self._jobs.run(request.session_hash, work):
                if isinstance(update, Busy):
                    yield gr.skip(), topbar.render(session, update), gr.Button(visible=True)
                else:
                    yield update
        except Cancelled:
            yield idle(session, "Cancelled; nothing has changed.")
        except UserError as problem:
            yield idle(session, str(problem))
            raise mistake(problem) from problem
        except Exception:  # a fault of the app's own: the page must not stay busy, the terminal gets the traceback
            yield idle(session, UNEXPECTED)
            raise

    def prepare(self) -> Iterator[tuple]:
        """For a page that opens: the progress of the preparation, then its session."""
        for busy in self._startup.watch():
            yield gr.skip(), topbar.render(None, busy), gr.Button(visible=True)
        session = self._startup.wait()
        yield session, topbar.render(session, problem=self._startup.problem), gr.Button(visible=False)

    def cancel(self, request: gr.Request) -> None:
        if not self._jobs.cancel(request.session_hash):
            self._startup.cancel()


def mistake(problem: UserError) -> gr.Error:
    """What the page and the API's client get to read: the sentence, no traceback."""
    return gr.Error(str(problem), print_exception=False)


def done(session: Session) -> tuple:
    """Updates for `Frame.outputs` after work that led to `session`."""
    return session, topbar.render(session), gr.Button(visible=False)


def idle(session: Session, problem: str | None = None) -> tuple:
    """Updates for `Frame.outputs` after work that left the session as it was."""
    return gr.skip(), topbar.render(session, problem=problem), gr.Button(visible=False)
