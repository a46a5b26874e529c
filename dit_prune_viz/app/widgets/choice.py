"""Lists whose choices a listener fills in. What a page sends is handed on as it is; its listener says what is wrong.

Gradio keeps the choices per connection: to a page that comes back after a gap it would say that what is chosen there is
no choice.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from dit_prune_viz.app.widgets.number import as_sent


def choice(choices: list, **look: Any) -> gr.Dropdown:
    """A list that begins with these choices."""
    return as_sent(gr.Dropdown(choices, **look))
