"""First steps: a line of hints under the top bar that covers nothing, and the button that brings it back."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "pages/topbar/hints.js")
STEPS = (
    "Each square is a layer of the model. The brighter it is, the more its output rows differ in importance. Click one "
    "to open it.",
    "Drag the dashed line: layers above it are pruned row by row, layers below it as a whole. The numbers in the "
    "top bar follow.",
    "Choose how weights are ranked and how many are pruned. Masks and map update at once.",
    "Layer gives each cluster of weights its own sparsity. Compare draws dense and pruned images from the same noise. "
    "Trade-off measures methods against each other.",
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
