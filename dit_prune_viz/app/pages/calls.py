"""How an endpoint of the API does its work: errors become one sentence for the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from dit_prune_viz.app.pages.updates import UNEXPECTED, error_message
from dit_prune_viz.app.session.action_log import logged_call
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.errors import UserError


class Calls:
    """The calls of the API's clients, whose sessions gradio keeps between them."""

    def __init__(self, startup: Startup) -> None:
        self._startup = startup

    def session(self, session: Session | None) -> Session:
        """The client's session; a new client's is the prepared one, which may have to be waited for."""
        return self._startup.wait() if session is None else session

    @logged_call
    def call(self, session: Session | None, verb: Callable[[Session], Any]) -> Any:
        """Run a verb here and now, a UserError becoming the client's error."""
        try:
            return verb(self.session(session))
        except UserError as problem:
            raise error_message(problem, shown=False) from problem
        except Exception as fault:  # of the app's own: the client gets a sentence, the terminal the traceback
            raise gr.Error(UNEXPECTED) from fault
