"""How a page hears of what happens in its session elsewhere: in another tab, on another device, while it was away."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/session_link.js")


def session_link() -> gr.HTML:
    """Shows nothing. Its `select` event asks whether there is anything new, its `submit` event for everything, because
    the connection was broken."""
    return gr.HTML(value="", html_template="", js_on_load=SCRIPT, elem_id="session-link", apply_default_css=False)
