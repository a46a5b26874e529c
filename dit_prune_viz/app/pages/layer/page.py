"""Layer: one layer's units, its clusters with a sparsity slider each, its saliencies and timesteps, all linked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.layer import unit_reading
from dit_prune_viz.app.pages.layer.layout import LayerLayout, lay_out
from dit_prune_viz.app.pages.layer.listeners import LayerListeners
from dit_prune_viz.app.pages.layer.page_state import PageStates
from dit_prune_viz.app.pages.layer.unit_answers import UnitAnswers
from dit_prune_viz.app.pages.parts.layout import PaintFields
from dit_prune_viz.app.pages.table_edits import wire_table
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table
from dit_prune_viz.app.widgets.scripts import script

SAVE = script("pages/layer/save_file.js")


@dataclass(frozen=True)
class LayerTab:
    """What the other pages need to open a layer here: the picker, and the listener that shows what it holds.

    selection: of the visitor who asks. paints: what its clusters paint, wired by the page too.
    """

    picker: gr.Dropdown
    open_args: dict
    selection: Callable[[gr.Request], Selection]
    paints: PaintFields


def build(frame: Frame, actions: Actions) -> LayerTab:
    """Lay out the tab and wire it; the page decides when a layer is opened."""
    states = PageStates()
    answers = UnitAnswers(actions, states)
    # Functions, because gradio marks what it is given, which a method cannot be.
    layout = lay_out(lambda asked: answers.details(asked), lambda asked: answers.frames(asked))
    listeners = LayerListeners(frame, actions, states, layout)
    open_args = _wire_opening(frame, actions, layout, listeners)
    _wire_selecting(frame, layout, listeners)
    layout.dots.carve.click(listeners.cluster_selection, frame.session, frame.outputs, **INTERNAL)
    wire_table(frame, actions, layout.table, apply=cluster_table.apply, step_name=cluster_table.step_name)
    frame.shown.change(listeners.refresh, frame.session, layout.views, **INTERNAL)

    def selection(request: gr.Request) -> Selection:
        return states.of_visitor(request).selection

    return LayerTab(layout.controls.picker, open_args, selection, layout.paints)


def _wire_opening(frame: Frame, actions: Actions, layout: LayerLayout, listeners: LayerListeners) -> dict:
    """Which layer is shown, in which clusters, drawn how; returns the arguments of the listener that opens a layer."""
    controls, views = layout.controls, layout.views
    clusterings = gr.State(0)  # how often a layer that was opened had to be clustered
    open_args = {
        "fn": listeners.open_layer,
        "inputs": [frame.session, controls.picker, controls.unit, controls.algorithm, controls.k],
        "outputs": [*frame.outputs, *views, controls.projection, clusterings],
        "trigger_mode": "always_last",
        **INTERNAL,
    }
    controls.picker.input(  # a choice by keyboard is no `select`
        listeners.open_clustered,
        [frame.session, controls.picker],
        [*views, controls.projection],
        trigger_mode="always_last",
        queue=False,
        **INTERNAL,
    ).then(**open_args)
    gr.on(
        [control.input for control in (controls.unit, controls.algorithm, controls.k)],
        **{**open_args, "fn": listeners.cluster_anew, "outputs": [*frame.outputs, *views]},
    )
    drawing = [controls.projection, controls.most, layout.side.order, layout.side.overlay]
    gr.on(
        [control.input for control in drawing],
        listeners.change_view,
        [frame.session, *drawing],
        [*frame.outputs, *views],
        trigger_mode="always_last",
        **INTERNAL,
    )
    clusterings.change(actions.settle, frame.session, frame.session, **INTERNAL)
    find = layout.dots.find
    find.submit(listeners.find, [frame.session, find], [*views, controls.picker], **INTERNAL).success(**open_args)
    return open_args


def _wire_selecting(frame: Frame, layout: LayerLayout, listeners: LayerListeners) -> None:
    selecting = {
        layout.dots.units.select: listeners.select_in("units", unit_reading.units_of_dots),
        layout.side.plane.select: listeners.select_in("plane", unit_reading.units_of_plane_box),
        layout.side.cut.select: listeners.select_in("cut", unit_reading.units_of_saliencies),
        layout.table.select: listeners.select_in("table", unit_reading.units_of_table_row),
        layout.side.timesteps.click: listeners.select_in("timesteps", unit_reading.units_of_line),
    }
    for event, listener in selecting.items():
        # The words come at once, past the queue; the pictures take as long as they take.
        described = event(
            listener, frame.session, layout.dots.selection, trigger_mode="multiple", queue=False, **INTERNAL
        )
        described.then(listeners.refresh, frame.session, layout.views, trigger_mode="always_last", **INTERNAL)
    dots = layout.dots
    dots.near.click(listeners.add_neighbours, frame.session, layout.views, **INTERNAL)
    dots.save.click(listeners.save, [frame.session, dots.save_as], dots.file, **INTERNAL).success(
        None, dots.file, None, js=SAVE
    )
    layout.dots.clear.click(listeners.clear_selection, frame.session, layout.views, **INTERNAL)


def choices(session: Session) -> gr.Dropdown:
    """The picker for the session's model, at the layer worth looking at first."""
    layers = session.model.layers if session.model else ()
    named = [(f"{layer.name}  ·  {layer.kind}", layer.name) for layer in layers]
    return gr.Dropdown(choices=named, value=session.largest_heterogeneity() or (named[0][1] if named else None))
