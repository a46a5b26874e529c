"""The grid of "Which part does what?": a card per part with its picture, what it changed, and how much.

While the grid grows, a value brings the pictures that are new; the browser keeps the others, and the last value brings
all of them. Cards are sorted in the browser. A `select` event carries the `id` of a card that is to be opened in full.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection
from html import escape

import gradio as gr
from PIL import Image

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.analyzer import MISLEADS, Finding, Findings, agreement, times_predicted
from dit_prune_viz.app.session.contact_sheet import contact_sheet
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.metrics.pictures import fitting_gain

SCRIPT = script("widgets/shared.js", "widgets/part_grid.js")
SIDE = 224
"""Pictures are at most so many pixels wide and high."""
ORDERS = {
    "ssim": "effect (SSIM)",
    "delta": "loss of CLIP score",
    "error": "measured error",
    "damage": "predicted damage",
    "order": "the model's order",
}
GAINS = {"": "as they fit", "1": "× 1", "2": "× 2", "4": "× 4", "8": "× 8"}
TEMPLATE = (
    '<div class="parts"><div class="parts-head" hidden><p class="parts-words" role="status"></p>'
    '<label>Differences <select data-of="gain" aria-label="Amplification of the differences">'
    + "".join(f'<option value="{key}">{label}</option>' for key, label in GAINS.items())
    + '</select></label><label class="parts-order">Sorted by <select data-of="order" aria-label="Order of the cards">'
    + "".join(f'<option value="{key}">{label}</option>' for key, label in ORDERS.items())
    + '</select></label></div><ol class="parts-cards" aria-label="Parts of the model"></ol>'
    '<p class="parts-empty note">%s</p></div>'
)


def grid(elem_id: str, empty: str) -> gr.HTML:
    """Update it by returning `show(findings)`; `empty` is what it says while there is nothing to show."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE % escape(empty),
        js_on_load=SCRIPT,
        elem_id=elem_id,
        elem_classes="part-grid",
        apply_default_css=False,
    )


def show(findings: Findings, new: Collection[Finding] | None = None) -> str:
    """The grid's value. `new` are the findings whose pictures the browser does not have yet; None: all of them."""
    found = findings.found
    if not found:
        return json.dumps({"number": findings.number, "cards": []})
    dense = found[0].comparison.left
    first = new is None or found[0] in new
    ratio = agreement(found).ratio if len(found) > 1 else None
    cards = [_card(i, one, ratio, pictures=new is None or one in new) for i, one in enumerate(found)]
    return json.dumps(
        {
            "number": findings.number,
            "gain": fitting_gain([difference for one in found for difference in one.comparison.differences]),
            "words": _words(findings),
            "dense": {
                "picture": _uri(contact_sheet(dense.images)) if first else None,
                "figures": [["CLIP", dense.told or formatting.score(dense.clip)]],
            },
            "cards": cards,
        }
    )


def _words(findings: Findings) -> str:
    found, total = len(findings.found), findings.total
    if found < total:
        count = f"{found} of {total} parts{', stopped' if findings.done else ''}"
    else:
        count = "1 part" if total == 1 else f"{total} parts"
    done = findings.how.capitalize()
    request = findings.found[0].comparison.requests[0]
    return f"{done}: {count}. Seed {request.seed}, {request.steps} steps, from the same noise as the dense picture."


def _card(place: int, finding: Finding, ratio: float | None, *, pictures: bool) -> dict:
    done = finding.comparison
    figures = [["Δ CLIP", done.right.told or formatting.signed(done.delta)], ["SSIM", f"{done.ssim:.3f}"]]
    if finding.error is not None:
        figures.append(["measured error", _share(finding.error)])
    if finding.damage is not None:
        figures.append(["predicted damage", _share(finding.damage)])
    return {
        "id": place,
        "name": finding.part.name,
        "drawn": finding.drawn.name,
        "detail": finding.part.detail,
        "picture": _uri(contact_sheet(done.right.images)) if pictures else None,
        "difference": _uri(contact_sheet(done.differences)) if pictures else None,
        "figures": figures,
        "hint": _hint(times_predicted(finding, ratio)),
        # Smallest first; what is not known comes last.
        "order": place,
        "ssim": done.ssim,
        "delta": formatting.known(done.delta),
        "error": None if finding.error is None else -finding.error,
        "damage": None if finding.damage is None else -finding.damage,
    }


def _hint(times: float | None) -> str:
    """Where the prediction misleads, in words; empty where it does not."""
    if times is None or 1 / MISLEADS < times < MISLEADS:
        return ""
    if times > 1:
        return f"▲ costs {formatting.times(times)} more than predicted"
    return f"▼ costs {formatting.times(1 / times)} less than predicted"


def _share(value: float) -> str:
    """12.3 %, 0.041 %; a multiple where it is beyond all bounds."""
    return formatting.percent(value) if value < 10 else f"{value:.3g} ×"


def _uri(image: Image.Image) -> str:
    """Small and without loss, because the browser amplifies differences; a data URI."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "webp", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
