"""The list beside the map: every layer with its figures, those that lose most first; a click opens one.

Its script also ties the three views of the map together: the layer under the pointer or the keyboard's cursor in one
of them is marked in the others, without a word to the server.
"""

from __future__ import annotations

import json

import gradio as gr

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/plotly.js", "widgets/layer_list.js")
HEADERS = {
    "name": "layer",
    "granularity": "ranked",
    "sparsity": "sparsity",
    "damage": "damage",
    "weights": "weights",
}
TEMPLATE = (
    '<div class="layers"><div class="layers-head"><h2>Layers</h2>'
    '<input type="search" aria-label="Search layers by name or kind" placeholder="Search by name or kind">'
    '<span class="layers-count" role="status"></span></div>'
    '<div class="layers-scroll" tabindex="0" role="region" aria-label="Layers and their figures"><table><thead><tr>'
    + "".join(
        f'<th scope="col" data-key="{key}"><button type="button">{label}</button></th>'
        for key, label in HEADERS.items()
    )
    + '</tr></thead><tbody></tbody></table><p class="layers-empty"></p></div></div>'
)


def layers(empty: str) -> gr.HTML:
    """Its `click` event carries the `id` of a layer; `empty` is what it says while there are none."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="layer-list",
        elem_classes="plot-card",
        apply_default_css=False,
        opened=None,
        empty=empty,
    )


def show(session: Session | None) -> str:
    """The list's value: a row per layer in the model's order, which the browser sorts."""
    if session is None or session.model is None:
        return "[]"
    if session.report is None:  # not calibrated yet
        unknown = {"granularity": "–", "sparsity": None, "damage": None}
        return json.dumps(
            [
                {"name": layer.name, "kind": layer.kind, "place": layer.place, "weights": layer.weights, **unknown}
                for layer in session.model.layers
            ]
        )
    found = {layer.name: layer for layer in session.model.layers}
    rows = [
        {
            "name": report.name,
            "kind": found[report.name].kind,
            "place": found[report.name].place,
            "granularity": report.granularity,
            "sparsity": report.sparsity,
            "damage": report.damage,
            "weights": report.weights,
        }
        for report in session.report.layers
    ]
    return json.dumps(rows)


def mark(layer: str | None) -> gr.HTML:
    """The update that marks the layer which is open on the Layer page."""
    return gr.HTML(opened=layer)
