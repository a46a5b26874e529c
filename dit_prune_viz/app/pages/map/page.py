"""Map: where in the model is what. A heat map of blocks × kinds, a list of layers, and every layer as a dot below the
line that decides how it is ranked; all three show one selection, and each opens a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.map import plan_pair
from dit_prune_viz.app.pages.map.view import ACTIVATIONS, EMPTY, STATISTICS, dots_figure, heat_figure
from dit_prune_viz.app.session import measuring
from dit_prune_viz.app.session.recipe_form import BINS
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.app.widgets import layer_list, threshold_line
from dit_prune_viz.app.widgets import plot as scatter
from dit_prune_viz.figures.style import message

SENSE = "Prunes every layer alone to 50 % and measures what becomes of the transformer's output; it can be cancelled."
CHOICES = [(statistic.label, key) for key, statistic in STATISTICS.items()]
Y_CHOICES = [(STATISTICS[key].label, key) for key in ("g_out", "damage", "activation_norm")]


@dataclass(frozen=True)
class MapTab:
    """The views; their `click` events carry the `id` of a layer to open. pair: the maps of two plans."""

    heat: gr.HTML
    dots: gr.HTML
    list: gr.HTML
    pair: tuple[gr.HTML, gr.HTML]


def build(frame: Frame, actions: Actions) -> MapTab:
    """Lay out the tab and keep it up to date with the session. Its views' clicks are wired by the page."""
    with gr.Row(elem_classes="tab-controls"):
        statistic = gr.Dropdown(CHOICES, value="g_out", label="Colour of the map", scale=1, min_width=180)
        y = gr.Dropdown(Y_CHOICES, value="g_out", label="Height of the dots", scale=1, min_width=180)
        timestep = gr.Slider(
            0, BINS, value=0, step=1, label="Timestep bin (0: all)", scale=1, min_width=180, visible=False
        )
        help = gr.Markdown(_help("g_out"), elem_classes="note grow")
    with gr.Row(elem_classes="map-row"):
        with gr.Column(scale=5, min_width=340):
            heat = scatter.plot(message(EMPTY), height=400, elem_id="layer-map")
        with gr.Column(scale=4, min_width=340):
            layers = layer_list.layers(EMPTY)
    with gr.Column(elem_classes="card layer-dots-card"):
        line = threshold_line.line("layer-dots")
        dots = scatter.plot(message(EMPTY), height=400, elem_id="layer-dots")

    with gr.Row(elem_classes="tab-controls"):
        sense = gr.Button("Measure sensitivity", size="sm", scale=0, min_width=180, elem_id="sense")
        gr.Markdown(SENSE, elem_classes="note grow")
    pair = plan_pair.build(frame, actions)

    def measure(session: Session, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, measuring.sense)

    def move_line(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        yield from actions.answer(
            request,
            session,
            lambda now, report: set_threshold(now, event.threshold, report),
            lambda changed: threshold_line.answer(event.number, changed=changed),
        )

    line.input(move_line, frame.session, [*frame.outputs, line], trigger_mode="multiple", **INTERNAL)
    chosen = [frame.session, statistic, y, timestep]
    views = [heat, layers, line, dots]
    # The map shows the statistic first, so that it is drawn when the session changes.
    sense.click(_show_sensitivity, frame.session, [statistic, help, heat], **INTERNAL).then(
        measure, frame.session, frame.outputs, **INTERNAL
    )
    # One listener, so that an answer to what was asked before never comes after the one to what is asked last.
    asked = [frame.session.change, timestep.change, statistic.input, y.input]
    gr.on(asked, draw, chosen, views, trigger_mode="always_last", **INTERNAL)
    gr.on([statistic.input, y.input], _timestep, [statistic, y], timestep, **INTERNAL)
    statistic.input(_help, statistic, help, **INTERNAL)
    return MapTab(heat, dots, layers, pair)


def _show_sensitivity(session: Session | None) -> tuple[str, str, str]:
    return "sensitivity", _help("sensitivity"), scatter.show(heat_figure(session, "sensitivity"))


def draw(session: Session | None, statistic: str, y: str, timestep: int) -> tuple[str, str, str, str]:
    """The heat map, the list, the line and the dots."""
    heat, dots = heat_figure(session, statistic, timestep), dots_figure(session, y, timestep)
    line = threshold_line.show(session, drawn=y == "g_out")
    return scatter.show(heat), layer_list.show(session), line, scatter.show(dots)


def _timestep(statistic: str, y: str) -> gr.Slider:
    """The slider is there while something is shown that differs between timesteps."""
    return gr.Slider(visible=bool({statistic, y} & set(ACTIVATIONS)))


def _help(key: str) -> str:
    statistic = STATISTICS[key]
    return (
        f"**{statistic.label}**: {statistic.help}. Click a layer anywhere on this page to open it; with the keyboard, "
        "arrow keys walk through a picture and Enter opens a layer."
    )
