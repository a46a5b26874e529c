"""2:4 on this GPU: milliseconds of a step with and without 2:4 kernels, and which layers take part."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.updates import bar_updates
from dit_prune_viz.app.session import speed
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.session import Session


def build(frame: Frame, actions: Actions) -> None:
    """Lay the part out inside the current gradio context and wire it."""
    with gr.Accordion("Speed of 2:4 on this GPU", open=False, elem_id="speed-box"):
        words = gr.Markdown(speed.NO_MODEL, elem_classes="note", elem_id="speed-words")
        start = gr.Button("Measure 2:4", size="sm", interactive=False, elem_id="speed-run")
        table = gr.HTML("", elem_id="speed-table", apply_default_css=False)

    def measure(session: Session, request: gr.Request) -> Iterator[tuple]:
        def work(session: Session, report: Reporter) -> tuple:
            return session, speed.measure(session, report)

        for update in actions.watch(request, session, work):
            if isinstance(update, Result):
                session, found = update.value
                yield (*bar_updates(session), speed.summary(found), speed.table(found))
            elif isinstance(update, tuple):
                yield (*update, gr.skip(), gr.skip())

    start.click(measure, frame.session, [*frame.outputs, words, table], **INTERNAL)
    frame.shown.change(offer, frame.session, [words, table, start], **INTERNAL)


def offer(session: Session | None) -> tuple:
    """What there is to measure of a new session, or why there is nothing; older figures go."""
    return speed.note(session), "", gr.Button(interactive=speed.possible(session))
