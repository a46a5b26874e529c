"""Groups of layers on the Map: all layers in the weight–activation plane, and below a slider for every group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
import numpy as np

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.events import mode_of, value_of
from dit_prune_viz.app.pages.map import group_table
from dit_prune_viz.app.pages.map.group_view import (
    EMPTY,
    HINT,
    WAYS,
    checked_layers,
    describe_selection,
    plane_figure,
)
from dit_prune_viz.app.pages.table_edits import wire_table
from dit_prune_viz.app.pages.updates import error_message
from dit_prune_viz.app.session import layer_groups, packed
from dit_prune_viz.app.session.browser_values import read_whole
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.layer_groups import BY_KIND, groups_of, map_subject
from dit_prune_viz.app.session.selection import Selection, unpack
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table, plot
from dit_prune_viz.app.widgets.choice import choice
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.errors import UserError

AUTOMATIC = "auto"
COUNTED = ("kmeans", "gmm")
"""Ways to group that can be told how many groups to find."""
COUNTS = [(AUTOMATIC, AUTOMATIC), *((str(k), k) for k in range(2, 13))]


@dataclass(frozen=True)
class PlaneViews:
    """The scatter of all layers, whose `click` events carry the `id` of a layer to open, and what belongs to it."""

    by: gr.Dropdown
    k: gr.Dropdown
    plane: gr.HTML
    words: gr.Markdown
    carve: gr.Button
    clear: gr.Button


def lay_out_plane() -> PlaneViews:
    """The scatter, with the fields that say how its layers are grouped above and what a selection is for below."""
    with gr.Row(elem_classes="tab-controls", elem_id="group-controls"):
        by = choice(WAYS, value=BY_KIND, label="Group layers by", scale=1, min_width=140)
        k = choice(COUNTS, value=AUTOMATIC, label="Number of groups", scale=1, min_width=140, visible=False)
    plane = plot.selectable_plot(EMPTY, height=400, elem_id="layer-plane")
    with gr.Row(elem_id="group-tools"):
        carve = gr.Button("Make a group", size="sm", scale=0, min_width=130, elem_id="carve-layers")
        clear = gr.Button("Clear selection", size="sm", scale=0, min_width=130)
    words = gr.Markdown(HINT, elem_classes="note", elem_id="layer-selection")
    return PlaneViews(by, k, plane, words, carve, clear)


def lay_out_table() -> gr.HTML:
    """A row per group, with its slider."""
    return cluster_table.table(group_table.WORDS, "layer-groups")


def wire(frame: Frame, actions: Actions, views: PlaneViews, table: gr.HTML) -> None:
    """Have the scatter, its fields and the table change the session, and follow it."""
    listeners, selection = GroupListeners(frame, actions), gr.State(Selection())
    shown = [frame.session, selection]
    outputs = [views.plane, views.words, views.by, views.k]
    frame.shown.change(listeners.refresh, shown, outputs, trigger_mode="always_last", **INTERNAL)
    # By itself: of a large model its figures may take a while, which the scatter does not wait for.
    frame.shown.change(listeners.refresh_table, frame.session, table, trigger_mode="always_last", **INTERNAL)
    regroup = {"inputs": [frame.session, views.by, views.k], "outputs": frame.outputs, **INTERNAL}
    views.by.input(lambda by: gr.Dropdown(visible=by in COUNTED), views.by, views.k, **INTERNAL)
    # Each choice at once: one that waited would be read from the fields after they followed an earlier choice.
    gr.on([views.by.input, views.k.input], listeners.regroup, trigger_mode="multiple", **regroup)
    selected = [selection, views.plane, views.words]
    for event, listener in ((views.plane.select, listeners.select), (table.select, listeners.select_group)):
        event(listener, shown, selected, trigger_mode="multiple", queue=False, **INTERNAL)
    views.clear.click(listeners.clear, frame.session, selected, queue=False, **INTERNAL)
    views.carve.click(listeners.group_selection, shown, frame.outputs, **INTERNAL)
    wire_table(frame, actions, table, apply=group_table.apply, step_name=group_table.step_name)


class GroupListeners:
    """What the section does to the session, and what it shows of it."""

    def __init__(self, frame: Frame, actions: Actions) -> None:
        self._frame, self._actions = frame, actions

    def refresh(self, session: Session | None, selection: Selection, request: gr.Request) -> list:
        """The scatter and what is said of it follow the session."""
        session = self._actions.newest(request, session)
        selection = selection.of(map_subject(session))
        plane = gr.HTML(value=plot.show(plane_figure(session)), **plot.mark(selection))
        return [plane, describe_selection(session, selection), *_ways(session)]

    def refresh_table(self, session: Session | None, request: gr.Request) -> Iterator[str]:
        """The table follows the session. Bytes come a little later where a model's weights were not looked at yet."""
        now = self._actions.newest(request, session)
        yield group_table.show(now)
        if now is not None and now.pruned is not None and packed.by_layer(now) is None:
            packed.prepare(now.model)
            yield group_table.show(self._actions.newest(request, now))

    def regroup(self, session: Session, by: str, k: int | str, request: gr.Request) -> Iterator[tuple]:
        """Other groups for all layers."""

        def work(session: Session, report: Reporter) -> Session:
            if by == BY_HAND:
                return session
            report(0, 1, "Grouping the layers")
            return layer_groups.group_layers(session, by, None if k == AUTOMATIC else k)

        yield from self._actions.run(request, session, work, step="groups of layers")

    def select(
        self, session: Session | None, selection: Selection, request: gr.Request, event: gr.EventData
    ) -> tuple[Selection, gr.HTML, str]:
        """The layers that were drawn around become the selection, or are added to it or taken away."""
        try:
            ids = unpack(value_of(event, "packed"))
        except UserError as problem:
            raise error_message(problem) from problem
        return self._selected(session, selection, request, event, ids)

    def select_group(
        self, session: Session | None, selection: Selection, request: gr.Request, event: gr.EventData
    ) -> tuple[Selection, gr.HTML, str]:
        """The layers of the group whose name was clicked in the table."""
        present, group = self._actions.newest(request, session), read_whole(value_of(event, "cluster"))
        ids = np.zeros(0, dtype=np.int32)
        if present is not None and present.model is not None and group is not None:
            ids = np.flatnonzero(groups_of(present).labels == group)
        return self._selected(session, selection, request, event, ids)

    def clear(self, session: Session | None, request: gr.Request) -> tuple[Selection, gr.HTML, str]:
        """Nothing is selected any more."""
        return self._show(self._actions.newest(request, session), Selection())

    def group_selection(self, session: Session, selection: Selection, request: gr.Request) -> Iterator[tuple]:
        """The selected layers become a group of their own."""

        def work(session: Session, report: Reporter) -> Session:
            return layer_groups.group_of_selection(session, selection.of(map_subject(session)).ids)

        yield from self._actions.run(request, session, work, step="a group of the selected layers")

    def _selected(
        self,
        session: Session | None,
        selection: Selection,
        request: gr.Request,
        event: gr.EventData,
        ids: np.ndarray,
    ) -> tuple[Selection, gr.HTML, str]:
        present = self._actions.newest(request, session)
        meant = value_of(event, "subject")
        if meant and meant != map_subject(present):  # of dots that another model's have replaced meanwhile
            ids = ids[:0]
        own = selection.of(map_subject(present))
        return self._show(present, own.changed(checked_layers(present, ids), mode_of(event), "layers"))

    def _show(self, session: Session | None, selection: Selection) -> tuple[Selection, gr.HTML, str]:
        selection = selection.of(map_subject(session))
        return selection, gr.HTML(**plot.mark(selection)), describe_selection(session, selection)


def _ways(session: Session | None) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The choices as the session has them."""
    if session is None or session.model is None:
        return gr.skip(), gr.skip()
    groups = groups_of(session)
    ways = [*WAYS, (BY_HAND, BY_HAND)] if groups.algorithm == BY_HAND else WAYS
    counted = groups.algorithm in COUNTED
    if not counted:
        return gr.Dropdown(choices=ways, value=groups.algorithm), gr.Dropdown(visible=False)
    k = AUTOMATIC if groups.choice is not None else groups.k
    more = [(str(k), k)] if k not in dict(COUNTS).values() else []
    return gr.Dropdown(choices=ways, value=groups.algorithm), gr.Dropdown([*COUNTS, *more], value=k, visible=True)
