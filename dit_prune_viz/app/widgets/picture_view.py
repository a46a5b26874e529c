"""How B is looked at: as it is, with the dense picture or A laid over it up to a line, or as difference."""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.session.comparison_result import GAIN, GAINS
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/picture_view.js")
_GAINS = "".join(f'<option value="{gain}"{" selected" if gain == GAIN else ""}>× {gain}</option>' for gain in GAINS)
TEMPLATE = (
    '<div class="look" role="group" aria-label="How B is shown"><span>B as</span>'
    '<button type="button" class="plain" data-view="picture" aria-pressed="true">picture</button>'
    '<button type="button" class="plain" data-view="swipe" aria-pressed="false">swipe</button>'
    '<button type="button" class="plain" data-view="difference" aria-pressed="false">difference</button>'
    '<span class="look-swipe" hidden><select class="plain" aria-label="What lies left of the line">'
    '<option value="picture-dense">dense ◂</option><option value="picture-a">A ◂</option></select>'
    '<input type="range" min="0" max="100" value="50" aria-label="Where the line lies, in per cent"></span>'
    f'<span class="look-gain" hidden><select class="plain" aria-label="Differences are shown times">{_GAINS}</select>'
    "</span></div>"
)


def controls() -> gr.HTML:
    """Their script ties them to the pictures beside; a `select` event carries the `gain` that is chosen."""
    return gr.HTML(value="", html_template=TEMPLATE, js_on_load=SCRIPT, elem_id="picture-view", apply_default_css=False)
