"""How an endpoint of the API does its work: in a job like the page's, which ends with its client.

Errors become one sentence. While a call waits or works, `job.status().progress_data` of gradio's client tells how far
it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import gradio as gr

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.presence import Presence
from dit_prune_viz.app.pages.shared_work import SharedWork
from dit_prune_viz.app.pages.updates import error_message
from dit_prune_viz.app.session.action_log import logged
from dit_prune_viz.app.session.jobs import UNEXPECTED, Busy, Reporter, Result
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.app.session.workspaces import Workspaces
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pipelines.device import telling_of_memory

LOOK_SECONDS = 0.5
"""How often a call looks whether its client is still there."""
CANCELLED = "Cancelled; nothing has changed."

Verb = Callable[[Session, Reporter], Any]


class Calls:
    """The calls of the API's clients, whose sessions gradio keeps between them."""

    def __init__(self, startup: Startup, workspaces: Workspaces | None = None) -> None:
        self._startup, self._jobs = startup, startup.jobs
        self.shared = SharedWork(workspaces or Workspaces(startup.jobs.cancel))

    async def call(self, request: gr.Request, session: Session | None, verb: Verb) -> Any:
        """Run `verb(session, report)` in a job of the client's, after those that it asked for before.

        The verb gets the client's newest session, which gradio may not know yet; where it answers with a session, alone
        or first of several values, that one is the newest from then on. The job stops at its next step when the call is
        cancelled or its client is gone.

        Args:
            request: the client's.
            session: that gradio keeps for the client; None for a new one.
            verb: has to call `report` often, or to hand it on as `progress`.

        Returns:
            What the verb does.

        Raises:
            gr.Error: in one sentence.
        """
        stop = threading.Event()
        space = self.shared.of(request)
        owner = space.id if space else request.session_hash or f"call {id(stop)}"

        def work(report: Reporter) -> Any:
            given = self.session(session, report)
            people = given.store.people
            before = self.shared.begin(space, given, report) if space else people.newest(owner) or given
            people.saw(owner, before)
            answer = verb(before, report)
            after = answer[0] if isinstance(answer, tuple) and answer else answer
            if isinstance(after, Session):
                people.saw(owner, after)
                if space:
                    self.shared.end(space, before, after)
            return answer

        with self._serving(request, space), logged(verb, owner):
            return await self._follow(owner, work, stop)

    def look(self, request: gr.Request, session: Session | None, verb: Callable[[Session], Any]) -> Any:
        """Run a verb that reads the client's newest session, here and now; errors are as in `call`."""
        space = self.shared.of(request)
        owner = space.id if space else request.session_hash
        try:
            with self._serving(request, space), logged(verb, owner), telling_of_memory():
                given = self.session(session)
                return verb((space.newest if space else given.store.people.newest(owner or "")) or given)
        except Exception as problem:
            raise _error(problem) from problem

    def _serving(self, request: gr.Request, space: Workspace | None) -> AbstractContextManager[None]:
        known = space is not None or not request.session_hash
        return nullcontext() if known else self.shared.workspaces.serving(request.session_hash)

    def session(self, session: Session | None, report: Reporter | None = None) -> Session:
        """The client's session; a new client's is the prepared one, which may have to be waited for."""
        if session is not None:
            return session
        if report is not None:
            report.follow(self._startup.watch())
        return self._startup.wait()

    async def _follow(self, owner: str, work: Callable[[Reporter], Any], stop: threading.Event) -> Any:
        """The job's result, once it is there; whatever ends the wait ends the job."""
        loop, ended, tell = asyncio.get_running_loop(), asyncio.Event(), gr.Progress()
        presence, outcome, busy = Presence(), [], []

        def follow() -> None:
            try:
                for update in self._jobs.run(owner, work, cancel=stop):
                    if isinstance(update, Result):
                        outcome.append(update)
                    elif isinstance(update, Busy):
                        busy[:] = [update]
            except BaseException as problem:
                outcome.append(problem)
            finally:
                with suppress(RuntimeError):  # the server has been closed meanwhile
                    loop.call_soon_threadsafe(ended.set)

        # With its context, by which a Space that lends GPUs knows whose call it is.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(follow,), name="call", daemon=True).start()
        try:
            while not ended.is_set():
                try:
                    await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
                except TimeoutError:
                    if busy:
                        tell(*_progress(busy.pop()))
                    if presence.gone:
                        stop.set()
        finally:
            stop.set()
        if isinstance(outcome[-1], Result):
            return outcome[-1].value
        raise _error(outcome[-1]) from outcome[-1]


def _error(problem: BaseException) -> BaseException:
    if isinstance(problem, UserError):
        return error_message(problem, shown=False)
    if isinstance(problem, Cancelled):
        return gr.Error(CANCELLED, print_exception=False)
    # A fault of the app's own: the client gets a sentence, the terminal the traceback.
    return gr.Error(UNEXPECTED) if isinstance(problem, Exception) else problem


def _progress(busy: Busy) -> tuple[float, str]:
    left = "" if busy.seconds_left is None else f", about {formatting.seconds(busy.seconds_left)} left"
    return busy.share, f"{busy.what}{left}"
