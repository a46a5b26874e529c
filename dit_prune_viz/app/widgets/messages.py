"""How a widget's script and the server talk while somebody drags a slider or a line; `messages.js` is the other end.

The browser sends one `input` event at a time. It carries a `number`, counted up, and what the widget wants changed.
The server replies with the `answer` to that number, whatever happens; what was moved in the meantime goes with the
next event. So no move is lost, and none overtakes another.

Every value of such a widget says when it was computed (`at`, seconds of a monotonic clock), and so does an answer that
changed something. A value older than the last answer does not know of the change, and the browser ignores it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/messages.js")
"""What goes in front of the script of a widget that sends such messages."""


def props() -> dict:
    """What `gr.HTML` must be given for a widget that sends messages."""
    return {"answered": {"number": 0, "at": None}}


def now() -> float:
    """The time for `value`, to be taken before the session is read."""
    return time.monotonic()


def value(at: float, **fields) -> str:
    """The value of a widget that sends messages.

    Args:
        at: When its computation began, from `now`.
        fields: What the widget shows; JSON must be able to hold it.
    """
    return json.dumps({"at": at, **fields})


def answer(number: int, *, changed: bool, show: Callable[[float], str] | None = None) -> gr.HTML:
    """The update that lets the browser send its next event.

    Args:
        number: That of the event which is answered.
        changed: Whether the event changed the session. If not, the widget goes back to what it showed before.
        show: The widget's value as of a time, where the answer of a change brings it along.
    """
    at = time.monotonic() if changed else None
    shown = {} if at is None or show is None else {"value": show(at)}
    return gr.HTML(answered={"number": number, "at": at}, **shown)
