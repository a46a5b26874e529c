"""Which tab is open, whoever opened it."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/open_page.js")


def open_page() -> gr.HTML:
    """Shows nothing. Its `select` event carries the id of the tab that was opened as `page`."""
    return gr.HTML(value="", html_template="", js_on_load=SCRIPT, elem_id="open-page", apply_default_css=False)
