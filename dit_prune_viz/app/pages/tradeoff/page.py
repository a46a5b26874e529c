"""Trade-off: what sparsity costs, method against method; table and curves grow while the comparison runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.tradeoff import speed
from dit_prune_viz.app.pages.tradeoff.layout import lay_out
from dit_prune_viz.app.pages.tradeoff.listeners import (
    TradeoffListeners,
    offer_categories,
    show_chosen,
    show_damage,
    show_idle,
    show_measured,
    show_prompts,
    show_time,
)
from dit_prune_viz.app.pages.visits import Kept
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Measured
from dit_prune_viz.app.session.tradeoff_categories import category_table


@dataclass(frozen=True)
class TradeoffTab:
    """The components that follow the model."""

    steps: gr.Number


def build(frame: Frame, actions: Actions, kept: Kept, page: gr.Tab, folder: Path | None = None) -> TradeoffTab:
    """Lay out the tab `page` and wire it. Measurements are kept in `folder`, by default in the user's cache."""
    fields, views = lay_out()
    speed.build(frame, actions)
    listeners = TradeoffListeners(frame, actions, views, folder)
    measured = kept.measured
    inputs = [*fields.inputs, views.score, views.by, views.over]
    outputs = [*frame.outputs, measured, *views.outputs]
    fields.start.click(listeners.compare, [frame.session, fields.methods, *inputs], outputs, **INTERNAL)
    fields.sweep.click(listeners.sweep_exponents, [frame.session, *inputs], outputs, **INTERNAL)
    drawn = [frame.session, measured, fields.methods, views.score, views.by, views.over]
    gr.on([views.score.input, views.by.input, views.over.input], show_chosen, drawn, views.curves, **INTERNAL)
    views.score.input(category_table, [measured, views.score], views.categories, **INTERNAL)
    measured.change(offer_categories, [measured, views.score, views.by], [views.by, views.categories], **INTERNAL)
    shown_again = {"fn": _show_again, "inputs": [frame.session, measured, views.score, views.by, views.over]}
    kept.again.change(**shown_again, outputs=views.outputs, **INTERNAL)
    fields.prompt_set.change(show_prompts, fields.prompt_set, fields.preview, **INTERNAL)
    frame.shown.change(show_damage, [frame.session, measured], views.damage, **INTERNAL)
    asked = [frame.session, fields.methods, *fields.inputs]
    chosen = [field.change for field in (fields.methods, *fields.inputs)]
    idle = {"fn": show_idle, "inputs": drawn, "outputs": views.outputs, "trigger_mode": "always_last", **INTERNAL}
    time = {"fn": show_time, "inputs": asked, "outputs": fields.time, "trigger_mode": "always_last", **INTERNAL}
    # Nothing of this is worked out before somebody opens the page.
    page.select(**idle).then(**time)
    fields.methods.input(**idle)
    gr.on(chosen, **time)
    return TradeoffTab(fields.steps)


def _show_again(session: Session | None, measured: Measured, score: str, by: str, over: str) -> tuple:
    """Updates for the views of a page to which measurements came from elsewhere."""
    return show_measured(session, measured, score, by, over)[1:] if measured.rows else (gr.skip(),) * 6


def suggestions(session: Session | None) -> int:
    """Steps for the session's model."""
    return 20 if session is None or session.model is None else session.model.defaults.steps
