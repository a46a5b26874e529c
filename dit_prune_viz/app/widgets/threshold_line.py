"""CAG's line on the scatter of layers: dragged, typed, or moved by arrow keys, a layer at a time.

As in the cluster table, the browser sends one `input` event at a time (a number and the threshold, null for the
model's own) and waits for the `answer` to that number; what was moved meanwhile goes with the next.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import gradio as gr

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import own_threshold

SCRIPT = (Path(__file__).parent / "threshold_line.js").read_text(encoding="utf-8")
NOTHING = "CAG's line appears here once the model is calibrated."
OTHER = "Every layer is ranked the same way. Choose CAG at the left to split the layers by their heterogeneity, G_out."
TEMPLATE = (
    '<div class="threshold"><p class="threshold-note"></p><div class="threshold-tools" hidden>'
    '<p class="threshold-words" role="status"></p>'
    '<label>G_out threshold<input type="number" min="0" step="any" id="threshold"></label>'
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
        answered={"number": 0, "at": None},
    )


def show(session: Session | None, drawn: bool) -> str:
    """The component's value; `drawn` says whether the plot's height is G_out, on which alone a line can lie."""
    at = time.monotonic()
    if session is None or session.plan is None:
        return json.dumps({"at": at, "note": NOTHING})
    threshold = session.plan.threshold
    if threshold is None:
        return json.dumps({"at": at, "note": OTHER})
    return json.dumps(
        {
            "at": at,
            "note": "",
            "drawn": drawn,
            "threshold": _finite(threshold),
            "own": _finite(own_threshold(session)),
            "gOut": {name: layer.g_out for name, layer in session.plan.layers.items()},
        }
    )


def answer(number: int, *, changed: bool) -> gr.HTML:
    """The update that lets the browser send its next event; if nothing has changed, the line goes back."""
    return gr.HTML(answered={"number": number, "at": time.monotonic() if changed else None})


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
