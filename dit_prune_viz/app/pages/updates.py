"""What a listener answers: the present session and its bar, the bar alone, nothing, or an error in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import gradio as gr

from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import UserError


def error_message(problem: UserError, *, shown: bool = True) -> gr.Error:
    """What the page and the API's client get to read: the sentence, no traceback.

    `shown` is whether the page shows it in a message of its own; what stands in the bar is not said twice.
    """
    # Gradio's own messages are HTML; the bar and clients of the API get the sentence as it is.
    text = escape(str(problem), quote=False) if shown else str(problem)
    return gr.Error(text, visible=shown, print_exception=False)


def session_updates(session: Session) -> tuple:
    """Updates for `Frame.outputs` after work that led to `session`."""
    return session, topbar.render(session), gr.Button(visible=False)


def bar_updates(session: Session | None, problem: str | None = None) -> tuple:
    """Updates for `Frame.outputs` after work that left the session as it was."""
    return gr.skip(), topbar.render(session, problem=problem), gr.Button(visible=False)


def unchanged(components: Iterable) -> list:
    """Updates that leave all the components as they are."""
    return [gr.skip() for _ in components]
