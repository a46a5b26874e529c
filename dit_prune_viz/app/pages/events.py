"""What the scripts in the browser send along with an event, read so that nothing they leave out is a fault."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dit_prune_viz.app.session.workspaces import sent_id


def id_of(request: gr.Request) -> str | None:
    """The id of the session that a request is about; None where it names none."""
    return sent_id(getattr(request, "headers", None), getattr(request, "query_params", None))


def value_of(event: gr.EventData, name: str, default: Any = None) -> Any:
    """One value of an event; `default` where the browser sent none."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):  # gradio looks into whatever was sent, also where that is no object
        return default


def mode_of(event: gr.EventData) -> str:
    """What a selection does to the one before: "set", "add" or "subtract"."""
    mode = value_of(event, "mode")
    return mode if mode in ("add", "subtract") else "set"
