"""What was done in a table of clusters, or of groups of layers, on its way to the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.updates import error_message, unchanged
from dit_prune_viz.app.session.browser_values import read_edits
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table
from dit_prune_viz.errors import Progress, UserError

Apply = Callable[[Session, list[dict], Progress | None], Session]
StepName = Callable[[list[dict]], str]


def wire_table(frame: Frame, actions: Actions, table: gr.HTML, *, apply: Apply, step_name: StepName) -> None:
    """Have the edits of a table change the session, and every view follow once its sliders rest.

    Args:
        frame: of the page.
        actions: that the edits go through.
        table: as `cluster_table.table` makes it.
        apply: makes the edits.
        step_name: what undo calls them.
    """
    edit = edit_table(frame, actions, apply=apply, step_name=step_name)
    # "always_last" would send the first event again, not the last; the events of both carry their own data.
    table.submit(actions.settle, frame.session, frame.session, trigger_mode="multiple", **INTERNAL)
    table.input(edit, frame.session, [*frame.outputs, table], trigger_mode="multiple", **INTERNAL)


def edit_table(
    frame: Frame, actions: Actions, *, apply: Apply, step_name: StepName
) -> Callable[[Session | None, gr.Request, gr.EventData], Iterator[tuple]]:
    """A listener for the edits of a table, which is answered whatever happens. The arguments are as in `wire_table`."""

    def edit(session: Session | None, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        number = value_of(event, "number")
        try:
            edits = read_edits(value_of(event, "edits"))
        except UserError as problem:
            yield (*unchanged(frame.outputs), cluster_table.answer(number, changed=False))
            raise error_message(problem) from problem
        updates = actions.answer(
            request,
            session,
            lambda present, report: apply(present, edits, report),
            lambda changed: cluster_table.answer(number, changed=changed),
            step=step_name(edits),
        )
        for _, *rest in updates:
            yield (gr.skip(), *rest)  # the session is handed on by `settle`

    return edit
