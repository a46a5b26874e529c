"""The map as a controller: a board of all layers, a cell per block and kind, and one slider for those that are chosen.

Cells are coloured by sparsity and outlined by measured sensitivity. A click chooses a cell, a header its whole row or
column, a drag a rectangle; Shift adds, Alt takes away. Its `input` and `submit` events are as in `block_strip`; where
nothing is chosen, they carry `overall`, per cent for the whole model. A `click` event has the `id` of a layer to open;
a `select` event asks for sensitivity to be measured.
"""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.block_edits import sparsity_presets
from dit_prune_viz.app.session.board import cells, kinds_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = messages.SCRIPT + script("widgets/sparsity_edits.js", "widgets/board_selection.js", "widgets/layer_board.js")
NOTHING = "The map appears here once the model is calibrated."
HELP = (
    "Click a cell, a header, or drag over cells; Shift adds, Alt takes away. Enter or a double-click opens a layer. "
    "Colour: sparsity. Outline: sensitivity, thicker is more sensitive. Underlined: set by hand."
)
TEMPLATE = (
    '<div class="board"><p class="board-note"></p><div class="board-body" hidden>'
    f'<div class="board-grid" role="grid" aria-label="Layers by kind and block" title="{HELP}"></div>'
    '<p class="board-words" role="status"></p>'
    '<div class="board-slider"><input type="range" min="0" max="100" step="1">'
    '<label class="board-number"><input type="number" min="0" max="100" step="0.1"> %</label></div>'
    '<div class="board-tools"><label title="What the slider changes, all other layers make up for">'
    '<input type="checkbox" checked> <span>keep the overall sparsity</span></label>'
    '<select class="plain" aria-label="Layers to choose, and preset sparsities"></select>'
    '<button type="button" class="plain" data-does="clear">Choose none</button>'
    '<button type="button" class="plain" data-does="measure">Measure sensitivity</button></div></div></div>'
)


def board() -> gr.HTML:
    """The board and its slider."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="layer-board",
        apply_default_css=False,
        **messages.props(),
    )


def show(session: Session | None, at: float | None = None) -> str:
    """The component's value; `at` is when its computation began, now unless given."""
    at = messages.now() if at is None else at
    if session is None or session.plan is None:
        return messages.value(at, note=NOTHING, cells=[], kinds=[], presets=[])
    found = [
        {
            "name": cell.name,
            "kind": cell.kind,
            "block": cell.block,
            "weights": cell.weights,
            "share": round(100 * cell.share, 2),
            "hand": cell.by_hand,
            "fixed": cell.fixed,
            "rank": cell.rank,
            "told": "" if cell.sensitivity is None else f"{cell.sensitivity:.2g}",
        }
        for cell in cells(session)
    ]
    return messages.value(
        at,
        note="",
        cells=found,
        kinds=kinds_of(session),
        presets=[{"name": one.name, "text": one.text, "about": one.about} for one in sparsity_presets(session)],
        overall=round(100 * session.report.achieved, 2),
        target=round(100 * session.recipe.sparsity, 2),
        words=formatting.percent(session.report.achieved),
        fixed=session.recipe.fixed,
        sensed=bool(session.sensitivity),
    )
