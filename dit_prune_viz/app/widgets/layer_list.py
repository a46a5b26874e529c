"""The list beside the map: every layer with its figures, those that lose most first; a click opens one.

Its script also ties the three views of the map together: the layer under the pointer or the keyboard's cursor in one
of them is marked in the others, without a word to the server. Every row has a slider and a number for its sparsity,
whose events are as in `block_strip`.
"""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.session.block_edits import sparsities_of
from dit_prune_viz.app.session.layer_edits import movable_layers
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.figures.statistic import STATISTICS
from dit_prune_viz.pipelines.layers import Layer

SCRIPT = messages.SCRIPT + script("widgets/plotly.js", "widgets/sparsity_edits.js", "widgets/layer_list.js")


def _help(key: str) -> str:
    """What the numbers of a column mean, for the pointer."""
    statistic = STATISTICS.get(key)
    return f"{statistic.label}: {statistic.help}" if statistic else ""


HEADERS = {
    "name": "layer",
    "granularity": "ranked",
    "sparsity": "sparsity",
    "damage": "damage",
    "sensitivity": "measured",
    "weights": "weights",
}
TEMPLATE = (
    '<div class="layers"><div class="layers-head"><h2>Layers</h2>'
    '<input type="search" aria-label="Search layers by name or kind" placeholder="Search by name or kind">'
    '<span class="layers-count" role="status"></span></div>'
    '<div class="layers-scroll" tabindex="0" role="region" aria-label="Layers and their figures"><table><thead><tr>'
    + "".join(
        f'<th scope="col" data-key="{key}" class="{key}">'
        f'<button type="button" title="{_help(key)}">{label}</button></th>'
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
        **messages.props(),
    )


def show(session: Session | None, at: float | None = None) -> str:
    """The list's value: a row per layer in the model's order, which the browser sorts.

    Args:
        session: None or without a model shows no rows.
        at: when its computation began, now unless given.
    """
    at = messages.now() if at is None else at
    if session is None or session.model is None:
        return messages.value(at, rows=[])
    if session.report is None:  # not calibrated yet
        unknown = {"granularity": "–", "sparsity": None, "damage": None, "sensitivity": None}
        return messages.value(at, rows=[{**_names(layer), **unknown} for layer in session.model.layers])
    found = {layer.name: layer for layer in session.model.layers}
    given, movable = sparsities_of(session), set(movable_layers(session))
    sensed = session.output_errors
    rows = [
        {
            **_names(found[report.name]),
            "granularity": report.granularity,
            "sparsity": report.sparsity,
            "removed": report.removed,
            "given": round(100 * given[report.name], 2),
            "movable": report.name in movable,
            "damage": report.damage,
            "sensitivity": sensed.get(report.name),
        }
        for report in session.report.layers
    ]
    return messages.value(at, rows=rows)


def _names(layer: Layer) -> dict:
    return {"name": layer.name, "kind": layer.kind, "place": layer.place, "weights": layer.weights}


def mark(layer: str | None) -> gr.HTML:
    """The update that marks the layer which is open on the Layer page."""
    return gr.HTML(opened=layer)
