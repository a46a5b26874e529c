"""Take away: the recipe in words, what each file would weigh, and buttons that write it or open a recipe."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.takeaway.layout import lay_out
from dit_prune_viz.app.pages.takeaway.listeners import Sources, TakeawayListeners

TITLE = "Take away"


def build(frame: Frame, actions: Actions, sources: Sources, folder: Path) -> None:
    """Lay out the tab and wire it.

    Args:
        frame: what every action writes.
        actions: do the work.
        sources: other pages' results that go along.
        folder: where everything is written.
    """
    layout = lay_out(str(folder))
    listeners = TakeawayListeners(frame, actions, layout, sources, folder)
    inputs = [frame.session, layout.name, layout.overwrite, layout.values, sources.runs, sources.measured]
    for fields in layout.ways:
        fields.write.click(listeners.write(fields.way.name), inputs, [*frame.outputs, *layout.written], **INTERNAL)
    opening = layout.opening
    opening.open.click(
        listeners.open_recipe,
        [frame.session, opening.file, opening.carry_over],
        [*frame.outputs, opening.notes],
        **INTERNAL,
    )
    suggested = gr.State("")  # a name that a person typed stays
    frame.shown.change(
        listeners.show,
        [frame.session, layout.name, suggested],
        [suggested, *layout.shown],
        trigger_mode="always_last",
        **INTERNAL,
    )
