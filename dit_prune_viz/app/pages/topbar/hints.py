"""First steps: a line of hints under the top bar that covers nothing, and the button that brings it back."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "pages/topbar/hints.js")
STEPS = (
    "Each dot is a layer: its weights grow to the right, its activations upwards. The sliders below set a sparsity per "
    "group of layers, and the map further down shows where weights can go at little cost. Click a layer to open it.",
    "Choose a recipe and a sparsity. Masks, map and the damage in the top bar follow at once; a recipe that takes "
    "longer says so before it starts.",
    "The top bar shows what is removed, the size that is left, and the predicted damage. Undo takes back any step, "
    "and long work can be cancelled.",
    "Next: Layer sets a sparsity per cluster, Compare has map, images and scores on one screen, Trade-off "
    "plots quality against sparsity, Take away saves recipe, model and report.",
)
"""The style sheet outlines what each is about, by its number."""


def strip() -> gr.HTML:
    """The line of hints: there on the first visit, gone for good once dismissed or read to the end."""
    return gr.HTML(
        value="",
        html_template=(
            '<section class="hints" aria-label="First steps" hidden><span class="hints-step"></span>'
            '<p class="hints-text" role="status"></p><div class="hints-buttons">'
            '<button type="button" class="plain" data-do="back">Back</button>'
            '<button type="button" class="plain strong" data-do="next">Next</button>'
            '<button type="button" class="plain" data-do="close" aria-label="Dismiss the hints">✕</button>'
            "</div></section>"
        ),
        js_on_load=SCRIPT,
        elem_id="hints",
        apply_default_css=False,
        steps=list(STEPS),
    )


def button() -> gr.HTML:
    """Brings the hints back."""
    return gr.HTML(
        value="",
        html_template=(
            '<button type="button" class="plain" title="First steps" aria-label="Show the first steps">?</button>'
        ),
        js_on_load=(
            'element.querySelector("button").addEventListener("click", () => '
            'document.dispatchEvent(new CustomEvent("show-hints")));'
        ),
        elem_id="help",
        apply_default_css=False,
    )
