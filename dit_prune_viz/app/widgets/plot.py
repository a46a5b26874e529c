"""The one component behind every picture: a Plotly div that survives updates and reports clicks and selections.

Figures travel as JSON with typed arrays. The template never mentions the value, so gradio leaves the div alone and
`plot.js` redraws it in place: zoom and legend choices stay while the data changes. Listeners get a `gr.EventData`: a
click has an `id`, the first `customdata` of the point; a selection has `packed` ids of units, or the `range` in x and y
of a box drawn where there are none. `mode` says what it does to an earlier one: "set", "add" (shift), "subtract" (alt).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape

import gradio as gr
import numpy as np

from dit_prune_viz.app.session.selection import Selection, packed, unpack
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.library import PLOTLY_JS

SCRIPT = script(
    "widgets/shared.js",
    "widgets/plotly.js",
    "widgets/plot_toolbar.js",
    "widgets/plot_selection.js",
    "widgets/plot_timesteps.js",
    "widgets/plot_crosshair.js",
    "widgets/plot_keyboard.js",
    "widgets/plot.js",
)
LIBRARY = escape(f"gradio_api/file={PLOTLY_JS.as_posix()}")
"""The address of plotly.min.js below the app's."""


def plot(words: str = "", *, height: int, elem_id: str, visible: bool = True, render: bool = True) -> gr.HTML:
    """A plot `height` pixels tall that says `words` until it is drawn. Update it by returning `show(figure)` from a
    listener.

    `render` False leaves it to the caller to place it.
    """
    return _plot(words, height, elem_id, visible=visible, render=render)


def selectable_plot(words: str, *, height: int, elem_id: str) -> gr.HTML:
    """A plot whose dots can be drawn around, and shown as selected, see `mark`. Listeners find ids with `ids_of`."""
    return _plot(words, height, elem_id, selection="")


def unit_plot(
    words: str, *, height: int, elem_id: str, details: Callable[[dict], str], frames: Callable[[dict], str]
) -> gr.HTML:
    """A plot of dots that stand for a layer's units, which shows the page's selection and moves through timesteps.

    `details` and `frames` are asked by the browser with {"owner": the page, "subject": …} and "id", a unit, or "dots",
    how many are drawn: for a line about the unit, and for the dots' heights in every timestep bin (float32 in base64).
    Listeners of `select` find ids with `ids_of`.
    """
    strip = (
        '<div class="plot-steps" hidden>'
        '<button type="button" aria-label="Play through the timesteps"></button>'
        '<input type="range" min="0" max="1" step="1" value="0" aria-label="Timestep bin of the activation axis">'
        "<output>all timesteps</output></div>"
    )
    details.__name__, frames.__name__ = "details", "frames"
    # Above the dots, where it is on the screen whenever they are.
    detail = '<div class="plot-detail" role="status"></div>'
    return _plot(words, height, elem_id, detail, strip, server_functions=[details, frames], selection="")


def _plot(words: str, height: int, elem_id: str, above: str = "", below: str = "", **extra) -> gr.HTML:
    return gr.HTML(
        value=json.dumps({"data": [], "layout": {"meta": {"alt": words}}}) if words else "",
        html_template=(
            f'{above}<div class="plot" tabindex="0" role="group" style="height:{height}px" data-library="{LIBRARY}">'
            f'</div>{below}<div class="plot-spoken" role="status"></div>'
        ),
        js_on_load=SCRIPT,
        elem_id=elem_id,
        elem_classes="plot-card",
        apply_default_css=False,
        **extra,
    )


def mark(selection: Selection) -> dict[str, str]:
    """The props that make a `unit_plot` show the selection, to be sent along with its value or alone."""
    ids = packed(selection.ids) if len(selection) else ""
    return {"selection": json.dumps({"subject": selection.subject, "ids": ids})}


def ids_of(event: gr.EventData) -> np.ndarray:
    """The units that a lasso, a box or a click on a `unit_plot` found. UserError where they cannot be read."""
    return unpack(event.packed)


def show(figure: Figure) -> str:
    return figure.to_json()


def owned(figure: str, owner: str) -> str:
    """The value of a `unit_plot`: a figure in JSON, and the page that will ask for `details` and `frames`.

    The page is no prop: gradio forgets the props of a component on a tab that has not been opened yet when a listener
    skips it.
    """
    return f'{{"owner": {json.dumps(owner)}, "figure": {figure}}}'


def serve_plotly() -> None:
    """Let gradio serve plotly.min.js, so that no CDN is needed."""
    gr.set_static_paths([PLOTLY_JS])
