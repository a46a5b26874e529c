"""A slider for every block and every kind of layer, side by side like an equaliser's, and the same as a line of text.

Its `input` events (see `messages`) carry a `text` of sparsities, see `pruning.sparsity_text`: of the sliders that were
moved since the event before, or the one that was typed; `keep`, whether the rest makes up for it; and the number of the
`gesture`, whose moves are one step to undo. A `submit` event says that nothing moves any more.
"""

from __future__ import annotations

from dataclasses import asdict

import gradio as gr

from dit_prune_viz.app.session.block_edits import Bar, bars, sparsity_presets, sparsity_text
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script

_OWN = ("sparsity_edits.js", "block_strip_bars.js", "block_strip.js")
SCRIPT = messages.SCRIPT + script(*(f"widgets/{name}" for name in _OWN))
NOTHING = "A slider per block and per kind of layer appears here once the model is calibrated."
FIXED = "The recipe fixes the sparsity of every layer, so there is nothing to set by block or kind."
TEMPLATE = (
    '<details class="strip" open><summary>Sparsity by block and kind '
    '<span class="strip-detail" aria-hidden="true"></span></summary>'
    '<p class="strip-note"></p><div class="strip-body" hidden>'
    '<div class="strip-blocks" role="group" aria-label="Sparsity of each block"></div>'
    '<div class="strip-kinds" role="group" aria-label="Sparsity of each kind of layer"></div>'
    '<form class="strip-text"><label class="strip-field">As text'
    '<input type="text" spellcheck="false" autocomplete="off" title="Blocks, kinds or layers, and per cent; where two '
    'entries mean the same layer, the later one holds"></label>'
    '<button type="submit" class="plain">Apply</button>'
    '<button type="button" class="plain" data-does="copy">Copy</button>'
    '<select class="plain" aria-label="Preset sparsities"></select>'
    '<label class="strip-keep" title="What one slider changes, all other layers make up for">'
    '<input type="checkbox"> keep the overall sparsity</label></form>'
    '<p class="strip-help">Drag, or focus a slider: ↑ ↓ change it, ← → go to its neighbours, Shift takes several '
    "along; double-click or Delete sets the recipe's sparsity. A dot: set by hand. A thin line: from the least to the "
    "greatest of its layers.</p></div></details>"
)


def strip() -> gr.HTML:
    """The sliders and the text."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="block-strip",
        apply_default_css=False,
        **messages.props(),
    )


def show(session: Session | None, at: float | None = None) -> str:
    """The component's value; `at` is when its computation began, now unless given."""
    at = messages.now() if at is None else at
    if session is None or session.plan is None:
        return messages.value(at, note=NOTHING, blocks=[], kinds=[])
    blocks, kinds = bars(session)
    return messages.value(
        at,
        note=FIXED if all(bar.fixed for bar in kinds) else "",
        blocks=[_plain(bar) for bar in blocks],
        kinds=[_plain(bar) for bar in kinds],
        text=sparsity_text(session),
        presets=[asdict(preset) for preset in sparsity_presets(session)],
        base=round(100 * session.recipe.sparsity, 2),
    )


def _plain(bar: Bar) -> dict:
    shares = {name: round(100 * getattr(bar, name), 2) for name in ("mean", "low", "high")}
    return {**asdict(bar), **shares}
