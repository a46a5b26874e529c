"""Wires "Which part does what?": to the prompt of the Compare page, and to the pictures in which a card opens."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.parts.layout import PaintFields, PartFields
from dit_prune_viz.app.pages.parts.listeners import PartListeners, offer, offer_paint, put_in_full
from dit_prune_viz.app.pages.updates import unchanged
from dit_prune_viz.app.pages.visits import Kept
from dit_prune_viz.app.session.analyzer import Findings
from dit_prune_viz.app.session.runs import Runs

LOOK_UP = "() => document.querySelector('#pictures')?.scrollIntoView({block: 'center'})"

ShowRun = Callable[[Runs], tuple]


def wire(
    frame: Frame, actions: Actions, fields: PartFields, kept: Kept, asked: list, show: ShowRun, outputs: list
) -> None:
    """The Compare page's section.

    Args:
        frame: of the page.
        actions: the page's.
        fields: the section.
        kept: of the page: the findings, and the comparisons, which a card joins when it is opened.
        asked: prompt, seed, steps, frames and picture.
        show: updates for `outputs`, the page's pictures and its strip.
        outputs: see there.
    """
    findings, runs = kept.findings, kept.runs
    listeners = PartListeners(frame, actions, fields.views)
    views = fields.views.outputs
    inputs = [frame.session, findings, *fields.inputs, *asked]
    fields.start.click(listeners.draw, inputs, [*frame.outputs, *views], **INTERNAL)
    frame.shown.change(listeners.follow_model, [frame.session, findings], views, **INTERNAL)
    kept.again.change(listeners.show, findings, views, **INTERNAL)
    offered = gr.State(None)
    gr.on(
        [frame.shown.change, fields.by.input, fields.layer.input, fields.box.expand],
        offer,
        [frame.session, fields.by, fields.layer, offered],
        [offered, fields.layer, fields.chosen],
        **INTERNAL,
    )

    def open_card(runs: Runs, findings: Findings, event: gr.EventData) -> tuple:
        return show(runs) if put_in_full(runs, findings, event) else tuple(unchanged(outputs))

    fields.views.grid.select(open_card, [runs, findings], outputs, trigger_mode="multiple", **INTERNAL).then(
        None, None, None, js=LOOK_UP
    )


def wire_layer(
    frame: Frame,
    actions: Actions,
    fields: PaintFields,
    picker: gr.Dropdown,
    page: gr.Tab,
    kept: Kept,
    asked: list,
    show: ShowRun,
    outputs: list,
    tabs: gr.Tabs,
) -> None:
    """The Layer page's section, as `wire`; `picker` names its open layer. A card opens on the Compare page."""
    findings, runs = kept.paints, kept.runs
    listeners = PartListeners(frame, actions, fields.views)
    views = fields.views.outputs
    inputs = [frame.session, findings, picker, fields.cluster, fields.mode, *asked]
    fields.start.click(listeners.paint, inputs, [*frame.outputs, *views], **INTERNAL)
    frame.shown.change(listeners.follow_model, [frame.session, findings], views, **INTERNAL)
    kept.again.change(listeners.show, findings, views, **INTERNAL)
    offered = gr.State(None)
    gr.on(
        [frame.shown.change, picker.change],
        offer_paint,
        [frame.session, picker, offered],
        [offered, fields.cluster],
        trigger_mode="always_last",
        **INTERNAL,
    )
    # What a list on a page that was never open is sent may be lost.
    page.select(
        lambda session, layer: offer_paint(session, layer, None),
        [frame.session, picker],
        [offered, fields.cluster],
        **INTERNAL,
    )

    def open_card(runs: Runs, findings: Findings, event: gr.EventData) -> tuple:
        if not put_in_full(runs, findings, event):
            return (*unchanged(outputs), gr.skip())
        return (*show(runs), gr.Tabs(selected="compare"))

    fields.views.grid.select(open_card, [runs, findings], [*outputs, tabs], trigger_mode="multiple", **INTERNAL)
