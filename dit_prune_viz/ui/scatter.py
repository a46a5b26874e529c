"""The one component behind every picture: a Plotly div that survives updates and reports clicks and selections.

Figures travel as JSON with typed arrays. The template never mentions the value, so gradio leaves the div alone and
`plot.js` redraws it in place: zoom, legend choices and lasso stay while the data changes. Listeners get a
`gr.EventData` whose `id` (click) or `ids` (select) are the first `customdata` of the points; `subject` is what the
figure's `layout.meta` says it is about.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import plotly

from dit_prune_viz.figures import Figure

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
SCRIPT = (Path(__file__).parent / "plot.js").read_text(encoding="utf-8")


def plot(figure: Figure | None = None, *, height: int, elem_id: str) -> gr.HTML:
    """A plot `height` pixels tall. Update it by returning `show(figure)` from a listener."""
    return gr.HTML(
        value=show(figure) if figure else "",
        html_template=(
            f'<div class="plot" tabindex="0" role="group" style="height:{height}px"></div>'
            '<div class="plot-spoken" role="status"></div>'
        ),
        js_on_load=SCRIPT,
        elem_id=elem_id,
        elem_classes="plot-card",
        apply_default_css=False,
        library=f"gradio_api/file={PLOTLY_JS.as_posix()}",
    )


def show(figure: Figure) -> str:
    return figure.to_json()


def serve_plotly() -> None:
    """Let gradio serve plotly.min.js from the installed plotly package, so that no CDN is needed."""
    gr.set_static_paths([PLOTLY_JS])
