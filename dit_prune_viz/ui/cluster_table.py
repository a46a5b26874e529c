"""The table below the scatter: a row per cluster with a slider that changes its sparsity.

The browser sends one `input` event at a time: a number, and the last value of every row that was touched since the
event before. It waits for the `answer` to that number before it sends the next, so that no move is lost or overtaken.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import gradio as gr

from dit_prune_viz.figures import style
from dit_prune_viz.ui import layer_view
from dit_prune_viz.ui.session import Session

SCRIPT = (Path(__file__).parent / "cluster_table.js").read_text(encoding="utf-8")
HEADERS = ("", "", "units", "weights", "share of energy", "sparsity, %", "predicted damage")
TEMPLATE = (
    '<table class="clusters" hidden><caption></caption><thead><tr>'
    + "".join(f'<th scope="col">{header}</th>' for header in HEADERS)
    + "</tr></thead><tbody></tbody></table>"
)


def table() -> gr.HTML:
    """Its `input` event carries `number` and `edits`; see `apply`."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="cluster-table",
        apply_default_css=False,
        answered={"number": 0, "at": None},
    )


def show(session: Session | None, layer: str | None) -> str:
    """The table's value; without rows where the layer has no clusters."""
    at = time.monotonic()
    if not layer_view.is_clustered(session, layer):
        return json.dumps({"at": at, "layer": layer, "clustering": "", "caption": "", "rows": []})
    rows = [
        {**vars(row), "glyph": style.glyph(row.id), "colour": style.colour(row.id)}
        for row in session.cluster_rows(layer)
    ]
    shown = {"layer": layer, "clustering": layer_view.clustering_id(session, layer)}
    return json.dumps({"at": at, **shown, "caption": layer_view.caption(session, layer), "rows": rows})


def apply(session: Session, edits: list[dict]) -> Session:
    """The session with the edits made (layer, clustering, cluster, sparsity 0–1).

    An edit of clusters that are gone, because the layer was clustered anew or another model was loaded meanwhile, is
    left out: its slider stood for other weights. UserError for an unknown cluster or a sparsity outside 0–1.
    """
    for edit in edits:
        if layer_view.clustering_id(session, edit["layer"]) == edit["clustering"]:
            session = session.set_cluster_sparsity(edit["layer"], edit["cluster"], edit["sparsity"])
    return session


def answer(number: int, *, changed: bool) -> gr.HTML:
    """The update that lets the table send its next event; if nothing has changed, its sliders go back.

    Tables that were computed before this moment do not know of the change, and the browser ignores them.
    """
    return gr.HTML(answered={"number": number, "at": time.monotonic() if changed else None})
