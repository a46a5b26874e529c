"""What stays dense by the paper's rule and can be pruned by request: a list of names under the sentence about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.formatting import percent

NOTE = (
    "Choose what shall be prunable beside the layers of the blocks, or write a path, with * for any text. The model is "
    "then calibrated and pruned anew."
)


def build(frame: Frame, actions: Actions) -> None:
    """Lay the list out inside the current gradio context and keep it up to date with the model."""
    shown = gr.State(None)  # number of the model
    with gr.Accordion("Prune dense layers as well", open=False, elem_id="also-prune-box"):
        gr.Markdown(NOTE, elem_classes="note")
        with gr.Row(elem_classes="beside"):
            chosen = gr.Dropdown(
                [], value=[], multiselect=True, allow_custom_value=True, label="Layers", min_width=200,
                elem_id="also-prune",
            )  # fmt: skip
            apply = gr.Button("Apply", size="sm", scale=0, min_width=76, elem_id="also-prune-apply")

    def run(session: Session, patterns: Sequence[str], request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, lambda now, report: now.also_prune(patterns, report))

    apply.click(run, [frame.session, chosen], frame.outputs, **INTERNAL)
    frame.shown.change(show, [frame.session, shown], [chosen, shown], **INTERNAL)


def show(session: Session | None, shown: int | None) -> tuple:
    """The list and its model's number; both stay as they are while the model does."""
    model = session.model if session else None
    if model is None or model.number == shown:
        return gr.skip(), gr.skip()
    choices = [
        (f"{offer.pattern} ({offer.reason}, {percent(offer.weights / model.parameters)})", offer.pattern)
        for offer in model.offers
    ]
    return gr.Dropdown(choices, value=list(model.also_prune), multiselect=True, allow_custom_value=True), model.number
