"""The table below the scatter: a row per cluster with a slider that changes its sparsity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from dit_prune_viz.figures import style
from dit_prune_viz.plan import ClusterDamage

SCRIPT = (Path(__file__).parent / "cluster_table.js").read_text(encoding="utf-8")
HEADERS = ("", "", "units", "weights", "share of energy", "sparsity, %", "predicted damage")
TEMPLATE = (
    '<table class="clusters" hidden><caption></caption><thead><tr>'
    + "".join(f'<th scope="col">{header}</th>' for header in HEADERS)
    + "</tr></thead><tbody></tbody></table>"
)


def table() -> gr.HTML:
    """Its `input` event carries `cluster` (id) and `sparsity` (0–1)."""
    return gr.HTML(
        value="", html_template=TEMPLATE, js_on_load=SCRIPT, elem_id="cluster-table", apply_default_css=False
    )


def show(rows: Sequence[ClusterDamage], caption: str) -> str:
    """The table's value."""
    return json.dumps(
        {
            "caption": caption,
            "rows": [{**vars(row), "glyph": style.glyph(row.id), "colour": style.colour(row.id)} for row in rows],
        }
    )
