"""Map: where in the model is what. All layers in the weight–activation plane in groups with a slider each, a heat map
of blocks × kinds, a list of layers, and every layer as a dot below the line that decides how it is ranked; all of them
mark one layer, and each opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.map import also_prune, group_table, groups, plan_pair, sparsity_edits
from dit_prune_viz.app.pages.map.group_view import plane_figure
from dit_prune_viz.app.pages.map.view import ACTIVATIONS, EMPTY, STATISTICS, dense_words, dots_figure, heat_figure
from dit_prune_viz.app.session import measuring
from dit_prune_viz.app.session.recipe_form import BINS
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.app.widgets import block_strip, layer_list, plot, threshold_line
from dit_prune_viz.app.widgets.number import slider

SENSE = "Prunes one layer at a time to 50 % and measures the error of the transformer's output. You can cancel it."
CHOICES = [(statistic.label, key) for key, statistic in STATISTICS.items()]
FIRST, SECOND = "damage", "g_out"
"""What the map opens on, and what lies one click away from it."""
Y_CHOICES = [(STATISTICS[key].label, key) for key in ("g_out", "damage", "activation_norm")]


@dataclass(frozen=True)
class MapTab:
    """The views; their `click` events carry the `id` of a layer to open. pair: the maps of two plans."""

    plane: gr.HTML
    heat: gr.HTML
    dots: gr.HTML
    list: gr.HTML
    pair: tuple[gr.HTML, gr.HTML]


@dataclass(frozen=True)
class Controls:
    """What the map's colours and the dots' heights mean; `other` changes the colours to the other of the first two."""

    statistic: gr.Dropdown
    y: gr.Dropdown
    timestep: gr.Slider
    other: gr.Button
    help: gr.Markdown


@dataclass(frozen=True)
class Views:
    """All layers in groups, their table, the heat map, the list of layers, CAG's line and the dots that it lies on, the
    sliders of blocks and kinds, and what stays dense.
    """

    plane: groups.PlaneViews
    heat: gr.HTML
    groups: gr.HTML
    layers: gr.HTML
    line: gr.HTML
    dots: gr.HTML
    strip: gr.HTML
    dense: gr.Markdown


def build(frame: Frame, actions: Actions, runs: gr.State, a: gr.State) -> MapTab:
    """Lay out the tab and keep it up to date with the session. Its views' clicks are wired by the page; `runs` and `a`
    as in `plan_pair.build`.
    """
    controls, views, sense = _lay_out()
    groups.wire(frame, actions, views.plane, views.groups)
    sparsity_edits.wire(frame, actions, views.strip, block_strip.show)
    sparsity_edits.wire(frame, actions, views.layers, layer_list.show)
    also_prune.build(frame, actions)
    pair = plan_pair.build(frame, actions, runs, a)
    listeners = MapListeners(actions)
    line = views.line
    line.input(listeners.move_line, frame.session, [*frame.outputs, line], trigger_mode="multiple", **INTERNAL)
    # The map shows the statistic first, so that it is drawn when the session changes.
    sense.click(lambda: "sensitivity", None, controls.statistic, **INTERNAL).then(
        listeners.measure_sensitivity, frame.session, frame.outputs, **INTERNAL
    )
    # One listener, so that an answer to what was asked before never comes after the one to what is asked last.
    asked = [frame.shown.change, controls.timestep.change, controls.statistic.change, controls.y.input]
    shown = [frame.session, controls.statistic, controls.y, controls.timestep]
    outputs = [views.heat, line, views.dots, views.dense]
    gr.on(asked, draw, shown, outputs, trigger_mode="always_last", **INTERNAL)
    axes = [controls.statistic, controls.y]
    gr.on([control.change for control in axes], _timestep, axes, controls.timestep, **INTERNAL)
    named = [controls.help, controls.other]
    controls.statistic.change(lambda key: (_help(key), _other_label(key)), controls.statistic, named, **INTERNAL)
    controls.other.click(_other, controls.statistic, controls.statistic, **INTERNAL)
    return MapTab(views.plane.plane, views.heat, views.dots, views.layers, pair)


def _lay_out() -> tuple[Controls, Views, gr.Button]:
    """The controls, the views, and the button that measures sensitivity. What is asked for first stands first."""
    with gr.Row(elem_classes="map-row"):
        with gr.Column(scale=1, min_width=340):
            plane = groups.lay_out_plane()
        with gr.Column(scale=1, min_width=340):
            with gr.Row(elem_classes="tab-controls"):
                statistic = gr.Dropdown(CHOICES, value=FIRST, label="Map colour", scale=1, min_width=140)
                other = gr.Button(_other_label(FIRST), size="sm", scale=0, min_width=150, elem_id="map-other")
            heat = plot.plot(EMPTY, height=400, elem_id="layer-map")
            timestep = slider(0, BINS, 0, "Timestep bin (0: all)", step=1, visible=False)
            about = gr.Markdown(_help(FIRST), elem_classes="note")
    table = groups.lay_out_table()
    with gr.Row(elem_classes="map-row"):
        with gr.Column(scale=4, min_width=340):
            layers = layer_list.layers(EMPTY)
        with gr.Column(scale=5, min_width=340, elem_classes="card layer-dots-card"):
            y = gr.Dropdown(Y_CHOICES, value="g_out", label="Dot height", min_width=180, elem_id="dot-height")
            line = threshold_line.line("layer-dots")
            dots = plot.plot(EMPTY, height=340, elem_id="layer-dots")
    strip = block_strip.strip()
    dense = gr.Markdown("", elem_classes="note", elem_id="dense-share")
    with gr.Row(elem_classes="tab-controls"):
        sense = gr.Button("Measure sensitivity", size="sm", scale=0, min_width=180, elem_id="sense")
        gr.Markdown(SENSE, elem_classes="note grow")
    controls = Controls(statistic, y, timestep, other, about)
    return controls, Views(plane, heat, table, layers, line, dots, strip, dense), sense


class MapListeners:
    """What the page does to the session."""

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def measure_sensitivity(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """Prune every layer alone, and measure."""
        yield from self._actions.run(request, session, measuring.sense, step=None)

    def move_line(self, session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        """CAG's line at another threshold; None, which the script sends for it, is the model's own."""
        number, threshold = value_of(event, "number"), value_of(event, "threshold", "nothing")
        yield from self._actions.answer(
            request,
            session,
            lambda now, report: set_threshold(now, threshold, report),
            lambda changed: threshold_line.answer(number, changed=changed),
        )


def draw(session: Session | None, statistic: str, y: str, timestep: int) -> tuple[str, str, str, str]:
    """The heat map, the line, the dots, and what stays dense."""
    heat, dots = heat_figure(session, statistic, timestep), dots_figure(session, y, timestep)
    line = threshold_line.show(session, drawn=y == "g_out")
    return plot.show(heat), line, plot.show(dots), dense_words(session)


def draw_ahead(session: Session) -> None:
    """Draw everything once, so that modules are imported and figures known when the first page asks for them."""
    draw(session, FIRST, Y_CHOICES[0][1], 0)
    plot.show(plane_figure(session))
    for show in (group_table.show, block_strip.show, layer_list.show):
        show(session)


def _timestep(statistic: str, y: str) -> gr.Slider:
    """The slider is there while something is shown that differs between timesteps."""
    return gr.Slider(visible=bool({statistic, y} & set(ACTIVATIONS)))


def _other(key: str) -> str:
    """The other of the first two statistics."""
    return SECOND if key == FIRST else FIRST


def _other_label(key: str) -> str:
    return f"Show {STATISTICS[_other(key)].label.partition(' (')[0].lower()}"


def _help(key: str) -> str:
    statistic = STATISTICS[key]
    return (
        f"**{statistic.label}**: {statistic.help}. Click a layer anywhere on this page to open it; on the keyboard, "
        "arrow keys move through a plot and Enter opens a layer."
    )
