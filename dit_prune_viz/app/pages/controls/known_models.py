"""Public models to choose from: a list under the model's field, and what to know about the chosen one."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS, KnownModel, describe

NOTE = "Choose one to see its size, licence and settings. Nothing is downloaded until you press Load."


def build(field: gr.Textbox) -> None:
    """Lay the list out inside the current gradio context; a choice is written into the model's `field`."""
    with gr.Accordion("Public models", open=False, elem_id="known-models"):
        choices = [(_label(model), hub_id) for hub_id, model in KNOWN_MODELS.items()]
        chosen = gr.Dropdown(choices, value=None, label="Model", filterable=True, elem_id="known-model")
        words = gr.Markdown(NOTE, elem_classes="note", elem_id="known-model-words")
    chosen.input(choose, chosen, [field, words], **INTERNAL)


def choose(hub_id: str | None) -> tuple:
    """Updates of the field and of the note."""
    model = KNOWN_MODELS.get(hub_id)
    return (gr.skip(), NOTE) if model is None else (hub_id, describe(model))


def _label(model: KnownModel) -> str:
    needs = ", gated" if model.gated else ", as a folder" if model.instead else ""
    return f"{model.name} ({model.memory:.0f} GB{needs})"
