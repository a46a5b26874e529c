"""Scripts and pages that work in one session: a client of the API that names a session's id goes on where it is."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.pages.events import id_of
from dit_prune_viz.app.pages.updates import error_message
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.app.session.workspaces import Workspaces, is_id, new_id
from dit_prune_viz.errors import UserError

STEP = "a call of the API"
NO_ID = "This is no session's id; take the one in a page's address, or what /session_id answers."


class SharedWork:
    """The workspaces of the API's clients. A client has one if it sends an id with its calls, or has opened one."""

    def __init__(self, workspaces: Workspaces) -> None:
        self.workspaces = workspaces

    def of(self, request: gr.Request) -> Workspace | None:
        """The client's workspace; None for one that works alone."""
        client = request.session_hash
        id = id_of(request)
        if id is not None:
            return self.workspaces.open(id, client)
        space = self.workspaces.of_page(client) if client else None
        return space if space is not None and is_id(space.id) else None

    def open(self, request: gr.Request, id: str | None, session: Session | None) -> Workspace:
        """A workspace for the client from now on: that of an id, or a new one that begins with its session.

        Raises:
            gr.Error: for what is no id.
        """
        if id is not None and not is_id(id):
            raise error_message(UserError(NO_ID), shown=False)
        space = (self.of(request) if id is None else None) or self.workspaces.open(id or new_id(), request.session_hash)
        if space.newest is None and session is not None:
            space.history.step(session, session, None)
            self.workspaces.changed(space)
        return space

    def begin(self, space: Workspace, given: Session, report: Reporter) -> Session:
        """The workspace's newest session, else what was saved for it, else the given one."""
        before = space.newest or given
        after = self.workspaces.recall(space, before, report)
        if after is not before:
            self.end(space, before, after)
        return after

    def end(self, space: Workspace, before: Session, after: Session) -> None:
        """A call has led to another session; the pages hear of it."""
        space.step(before, after, STEP)
        space.tell_others(None)
        self.workspaces.changed(space)
