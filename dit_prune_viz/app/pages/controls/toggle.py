"""On a narrow screen the left column folds away above the page; this button opens it."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("pages/controls/toggle.js")


def toggle() -> gr.HTML:
    """The button; the style sheet hides it where the column has room of its own."""
    return gr.HTML(
        value="",
        html_template=(
            '<button type="button" class="plain" aria-expanded="false" aria-controls="controls">'
            "Model, calibration and recipe</button>"
        ),
        js_on_load=SCRIPT,
        elem_id="controls-toggle",
        apply_default_css=False,
    )
