"""Compare, the workbench: the map as controller; one to four prompts drawn dense, by A and by B from the same noise;
and the evidence, every run's scores before measured curves. B is the session's plan, or one cluster of a layer alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.compare import input_picture, versions, xy_grid
from dit_prune_viz.app.pages.compare.layout import CLASSES, NUMBERS, PROMPTS, SUGGESTIONS, CompareLayout, lay_out
from dit_prune_viz.app.pages.compare.listeners import (
    CompareListeners,
    offer_clusters,
    offer_layers,
    show_run,
    waits_for,
)
from dit_prune_viz.app.pages.layer.page import LayerTab
from dit_prune_viz.app.pages.map import sparsity_edits
from dit_prune_viz.app.pages.parts import page as parts
from dit_prune_viz.app.pages.visits import Kept
from dit_prune_viz.app.session.comparison import MAX_PROMPTS
from dit_prune_viz.app.session.drawing_inputs import example_prompts, takes_classes, takes_frames, takes_picture
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import layer_board

TITLE = "Compare"


@dataclass(frozen=True)
class CompareTab:
    """The components that follow the model and the layer that is open.

    layout: the whole page. board: its `click` events carry the `id` of a layer to open. asked: what is drawn, for other
    pages that draw it too. shown: pictures, strip and evidence, see `show_run`.
    """

    layout: CompareLayout
    prompt: gr.Textbox
    examples: gr.Dataset
    steps: gr.Number
    frames: gr.Number
    picture: gr.Row
    layer: gr.Dropdown
    cluster: gr.Dropdown
    asked: list
    shown: list

    @property
    def board(self) -> gr.HTML:
        return self.layout.board


def build(frame: Frame, actions: Actions, kept: Kept, tabs: gr.Tabs) -> CompareTab:
    """Lay out the tab and wire it; `tabs` are those of the page."""
    layout = lay_out()
    xy_grid.build(frame, actions, layout.request)
    listeners = CompareListeners(frame, actions, layout)
    runs, asked, cluster = kept.runs, layout.request, layout.cluster
    known, drawn = [frame.session, runs, *layout.evidence.inputs], [*frame.outputs, *layout.outputs]
    gr.on(
        [asked.generate.click, asked.prompt.submit],
        listeners.generate,
        [*known, *asked.inputs],
        drawn,
        **INTERNAL,
    ).then(waits_for, frame.session, layout.wait, **INTERNAL)
    gr.on(
        [frame.shown.change, asked.redraw.input],
        listeners.redraw,
        [*known, asked.redraw, *asked.inputs],
        drawn,
        trigger_mode="always_last",
        **INTERNAL,
    )
    frame.shown.change(waits_for, frame.session, layout.wait, trigger_mode="always_last", **INTERNAL)
    chosen = [cluster.layer, cluster.cluster, cluster.mode]
    cluster.show.click(listeners.paint_cluster, [*known, *chosen, *asked.inputs], drawn, **INTERNAL)
    _wire_runs(frame, listeners, layout, kept)
    frame.shown.change(listeners.follow_model, known, layout.outputs, **INTERNAL)
    asked.examples.click(lambda sample: sample[0], asked.examples, asked.prompt, **INTERNAL)
    asked.four.click(_four, frame.session, asked.prompt, **INTERNAL)
    picture = asked.picture
    picture.upload.upload(input_picture.upload, picture.upload, picture.outputs, **INTERNAL)
    picture.bundled.click(lambda: input_picture.show(None), None, picture.outputs, **INTERNAL)
    cluster.layer.input(offer_clusters, [frame.session, cluster.layer], cluster.cluster, **INTERNAL)
    parts.wire(frame, actions, layout.parts, kept, asked.inputs, show_run, layout.outputs)
    sparsity_edits.wire(frame, actions, layout.board, layer_board.show)
    layout.board.select(listeners.measure_sensitivity, frame.session, frame.outputs, **INTERNAL)
    versions.wire(frame, actions, layout, kept)
    layout.versions.take.click(lambda: gr.Tabs(selected="takeaway"), None, tabs, **INTERNAL)
    return CompareTab(
        layout=layout,
        prompt=asked.prompt,
        examples=asked.examples,
        steps=asked.steps,
        frames=asked.frames,
        picture=picture.row,
        layer=cluster.layer,
        cluster=cluster.cluster,
        asked=asked.inputs,
        shown=layout.outputs,
    )


def _wire_runs(frame: Frame, listeners: CompareListeners, layout: CompareLayout, kept: Kept) -> None:
    """Going back to a run, making one A, and how the evidence is drawn."""
    runs, axes = kept.runs, layout.evidence.inputs
    restored = [*frame.outputs, *layout.outputs, *layout.request.restored]
    multiple = {"trigger_mode": "multiple", **INTERNAL}
    known = [frame.session, runs, *axes]
    layout.strip.submit(listeners.restore, known, restored, **multiple)
    layout.evidence.plot.click(listeners.pick_dot, known, [*restored, kept.a], **multiple)
    layout.strip.select(listeners.make_a, runs, kept.a, **multiple)
    kept.a.change(listeners.follow_a, [runs, *axes], layout.outputs, **INTERNAL)
    view_controls = layout.pictures.controls
    view_controls.select(listeners.regain, runs, layout.pictures.difference, **multiple)
    gr.on(
        [axis.input for axis in axes],
        lambda runs, score, over: show_run(runs, score, over)[-1],
        [runs, *axes],
        layout.evidence.plot,
        trigger_mode="always_last",
        **INTERNAL,
    )


def paint_in_layer(
    frame: Frame, actions: Actions, kept: Kept, tab: CompareTab, layer: LayerTab, page: gr.Tab, tabs: gr.Tabs
) -> None:
    """What the clusters of the open layer paint, shown on the Layer page; a card opens here."""
    parts.wire_layer(frame, actions, layer.paints, layer.picker, page, kept, tab.asked, show_run, tab.shown, tabs)


def follow_layer(frame: Frame, tab: CompareTab, open_layer: gr.Dropdown, page: gr.Tab) -> None:
    """Offer the clusters there are, those of the layer that is open first."""
    offered = gr.State(None)
    gr.on(
        [frame.shown.change, page.select],
        offer_layers,
        [frame.session, open_layer, offered],
        [offered, tab.layer, tab.cluster],
        **INTERNAL,
    )


def suggestions(session: Session, runs: Runs) -> tuple:
    """Prompt, examples and steps for the session's model, and whether it takes frames and a picture.

    Where a comparison of the model is shown, prompt and steps are its own.
    """
    takes = gr.Number(visible=takes_frames(session.model)), gr.Row(visible=takes_picture(session.model))
    if session.model is None:
        return "", gr.Dataset(samples=[]), 20, *takes
    prompts = example_prompts(session.model, SUGGESTIONS)
    label = PROMPTS
    if takes_classes(session.model):
        label = NUMBERS if prompts[0].isdecimal() else CLASSES
    shown = runs.shown if runs.shown and runs.shown.session.model is session.model else None
    return (
        gr.Textbox(value="\n".join(shown.prompts) if shown else prompts[0], label=label),
        gr.Dataset(samples=[[text] for text in prompts]),
        shown.comparison.requests[0].steps if shown else session.model.defaults.steps,
        *takes,
    )


def _four(session: Session | None) -> str:
    return "\n".join(example_prompts(session.model, SUGGESTIONS)[:MAX_PROMPTS]) if session and session.model else ""
