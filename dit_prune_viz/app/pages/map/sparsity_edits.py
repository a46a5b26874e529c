"""What the map's sliders do: those of blocks and kinds, and the layers' own. All send a text of sparsities."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.session.block_edits import set_by_text
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages


def wire(frame: Frame, actions: Actions, widget: gr.HTML, show: Callable[[Session | None, float], str]) -> None:
    """Make what a widget's sliders say true, and have every view follow once they rest.

    Args:
        frame: of the page.
        actions: of the page.
        widget: whose events are as in `block_strip`.
        show: its value, from the session and the time.
    """

    def edit(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        number, text = value_of(event, "number"), value_of(event, "text")
        keep, gesture = bool(value_of(event, "keep", False)), value_of(event, "gesture", 0)

        def answer(changed: bool) -> gr.HTML:
            newest = actions.newest(request.session_hash, session)
            return messages.answer(number, changed=changed, show=lambda at: show(newest, at))

        updates = actions.answer(
            request,
            session,
            lambda now, report: set_by_text(now, text, keep_overall=keep, progress=report),
            answer,
            step=f"sparsities set in {widget.elem_id}, gesture {gesture}…",
        )
        for _, *rest in updates:
            yield (gr.skip(), *rest)  # the session is handed on by `settle`

    def settle(session: Session | None, request: gr.Request) -> Session | None:
        return actions.newest(request.session_hash, session)

    # "always_last" would send the first event again, not the last; each carries its own data.
    widget.input(edit, frame.session, [*frame.outputs, widget], trigger_mode="multiple", **INTERNAL)
    widget.submit(settle, frame.session, frame.session, trigger_mode="multiple", **INTERNAL)
