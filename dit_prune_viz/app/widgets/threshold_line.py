"""CAG's line on the scatter of layers: dragged, typed, or moved by arrow keys, a layer at a time.

Its `input` events (see `messages`) carry the `threshold`, null for the model's own.
"""

from __future__ import annotations

import math

import gradio as gr

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = messages.SCRIPT + script("widgets/plotly.js", "widgets/threshold_line.js")
NOTHING = "The line that splits the layers appears here once the model is calibrated."
OTHER = (
    "Weights are compared in the same way in every layer. Choose CAG (clustering-aware granularity) at the left to "
    "split the layers by their row heterogeneity, G_out."
)
TEMPLATE = (
    '<div class="threshold"><p class="threshold-note"></p><div class="threshold-tools" hidden>'
    '<p class="threshold-words" role="status"></p>'
    '<label>Threshold of row heterogeneity (G_out)<input type="number" min="0" step="any" id="threshold"></label>'
    '<button type="button" class="plain"></button></div></div>'
)


def line(plot: str) -> gr.HTML:
    """The number field and the words; the line itself lies on the plot whose elem_id is `plot`."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="cag-line",
        apply_default_css=False,
        plot=plot,
        **messages.props(),
    )


def show(session: Session | None, drawn: bool) -> str:
    """The component's value; `drawn` says whether the plot's height is G_out, on which alone a line can lie."""
    at = messages.now()
    if session is None or session.plan is None:
        return messages.value(at, note=NOTHING)
    threshold = session.plan.threshold
    if threshold is None:
        return messages.value(at, note=OTHER)
    return messages.value(
        at,
        note="",
        drawn=drawn,
        threshold=_finite(threshold),
        own=_finite(session.plan.own_threshold),
        gOut={name: layer.g_out for name, layer in session.plan.layers.items()},
    )


answer = messages.answer


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
