"""What the Layer page does when something on it is clicked, chosen or dragged.

A listener gets the session of the moment at which it was triggered; `Actions.newest` knows the present one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.events import mode_of, value_of
from dit_prune_viz.app.pages.layer.layout import ALGORITHMS, AUTOMATIC, PROJECTIONS, SAMPLES, LayerLayout
from dit_prune_viz.app.pages.layer.page_state import PageState, PageStates
from dit_prune_viz.app.pages.updates import error_message, unchanged
from dit_prune_viz.app.session import cluster_edits, layer_data, layer_selection, unit_files
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.layer_subject import is_clustered, owned_layer, subject
from dit_prune_viz.app.session.selection import find_layer, is_name, search
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.errors import UserError

Read = Callable[[gr.EventData, PageState, Session], np.ndarray]
"""From an event of a view to the units that it means."""


class LayerListeners:
    """The listeners of one app's Layer page; what belongs to a single visitor is in `states`."""

    def __init__(self, frame: Frame, actions: Actions, states: PageStates, layout: LayerLayout) -> None:
        self._frame, self._actions, self._states = frame, actions, states
        self._views = layout.views
        self._clusterings = itertools.count(1)

    def _updates(
        self,
        request: gr.Request,
        session: Session | None,
        change: Callable[[PageState, Session | None], None],
        of: Callable[[PageState, Session | None], Any] = PageState.updates,
    ) -> Any:
        """The updates of all views, or what `of` says, after a change of what this page shows."""
        state = self._states.of_visitor(request)
        with state.lock:
            present = self._actions.newest(request, session)
            try:
                change(state, present)
                return of(state, present)
            except UserError as problem:
                raise error_message(problem) from problem

    def refresh(self, session: Session | None, request: gr.Request) -> list:
        """The views follow the session."""
        return self._updates(request, session, lambda state, present: None)

    def change_view(
        self, session: Session, projection: str, most: int, order: str, overlay: bool, request: gr.Request
    ) -> Iterator:
        """The same layer drawn otherwise; PCA and UMAP take a while the first time."""
        _check_view(projection, most, order)

        def change(state: PageState, present: Session | None) -> None:
            state.view = replace(state.view, projection=projection, most=most, order=order, overlay=bool(overlay))

        def work(session: Session, report: Reporter) -> Session:
            layer = self._states.of_visitor(request).view.layer
            if is_clustered(session, layer):
                report(0, 1, f"Projecting {layer}")
                layer_data.projected(session, layer, session.clusters[layer].unit, projection, most, report)
            return session

        bar = unchanged(self._frame.outputs)
        if projection != "plane":
            for update in self._actions.watch(request, session, work, step=None, looks=True):
                if isinstance(update, Result):
                    break
                yield (*update, *unchanged(self._views))
            else:
                return
            # The session stays what it is, it may be another by now.
            present = self._actions.newest(request, session)
            bar = [gr.skip(), *self._actions.after_viewing(request, present)[1:]]
        yield (*bar, *self._updates(request, session, change))

    def _show(self, layer: object, session: Session | None, request: gr.Request) -> list:
        """Updates of all views and of the projection, when another layer is opened."""

        def change(state: PageState, present: Session | None) -> None:
            named = owned_layer(present, layer)
            slow = state.view.projection == "umap" and named != state.view.layer  # and was not asked for here
            state.view = replace(state.view, layer=named, projection="plane" if slow else state.view.projection)

        return [*self._updates(request, session, change), self._states.of_visitor(request).view.projection]

    def open_clustered(self, session: Session | None, layer: str, request: gr.Request) -> list:
        """Show a layer that has clusters already, past the queue; of others nothing is known yet."""
        if is_clustered(self._actions.newest(request, session), layer):
            return self._show(layer, session, request)
        return [*unchanged(self._views), gr.skip()]

    def open_layer(
        self, session: Session, layer: str, unit: str, algorithm: str, k: int | str, request: gr.Request
    ) -> Iterator[tuple]:
        """Show a layer with the clusters it has, or with some found as the controls say."""
        outputs = self._frame.outputs
        if is_clustered(self._actions.newest(request, session), layer):
            yield (*unchanged(outputs), *self._show(layer, session, request), gr.skip())
            return
        for update in self._cluster(session, layer, unit, algorithm, k, request, step=None):
            if not isinstance(update, Result):
                yield (*update, *unchanged(self._views), gr.skip(), gr.skip())
                continue
            bar = unchanged(outputs[1:])
            if is_clustered(update.value, layer):
                bar = self._actions.after_viewing(request, update.value)[1:]
            # The session is handed on by `settle`: its listeners would keep the browser from drawing.
            yield (gr.skip(), *bar, *self._show(layer, update.value, request), next(self._clusterings))

    def cluster_anew(
        self, session: Session, layer: str, unit: str, algorithm: str, k: int | str, request: gr.Request
    ) -> Iterator[tuple]:
        """Other clusters for the layer that is open."""
        for update in self._cluster(session, layer, unit, algorithm, k, request, step=f"clusters of {layer}"):
            if isinstance(update, Result):
                bar = self._actions.after_viewing(request, update.value)
                yield (*bar, *self.refresh(update.value, request))
            else:
                yield (*update, *unchanged(self._views))

    def _cluster(self, session, layer, unit, algorithm, k, request: gr.Request, step: str | None) -> Iterator:
        def work(session: Session, report: Reporter) -> Session:
            opened = step is None and is_clustered(session, layer)  # by what was asked just before
            if session.plan is None or owned_layer(session, layer) is None or opened:
                return session
            report(0, 1, f"Clustering {layer}")
            by = ALGORITHMS[0][1] if algorithm == BY_HAND else algorithm
            return session.cluster(layer, unit, by, None if k == AUTOMATIC else k)

        return self._actions.watch(request, session, work, step=step, looks=True)

    def cluster_selection(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """The selected units become a cluster of their own."""
        state = self._states.of_visitor(request)

        def work(session: Session, report: Reporter) -> Session:
            layer, selection = state.view.layer, state.selection
            if not len(selection.of(subject(session, layer))):
                raise UserError("Nothing is selected. Draw around some dots first.")
            unit = session.need_clusters(layer).unit
            return cluster_edits.cluster_of_selection(session, layer, unit, selection.ids)

        yield from self._actions.run(request, session, work, step="a cluster of the selection")

    def select_in(self, origin: str, read: Read) -> Callable:
        """A listener that makes what `read` finds in the event the page's selection, and says what that is."""

        def select(session: Session | None, request: gr.Request, event: gr.EventData) -> str:
            def change(state: PageState, present: Session | None) -> None:
                meant = value_of(event, "subject")  # of dots that another layer may have replaced meanwhile
                if meant and meant != subject(present, state.view.layer):
                    return
                if is_clustered(present, state.view.layer):
                    state.select(present, read(event, state, present), mode_of(event), origin)

            return self._updates(request, session, change, PageState.describe_selection)

        return select

    def find(self, session: Session | None, text: str, request: gr.Request) -> list:
        """Select the units whose numbers were written, or name the layer to open."""
        present = self._actions.newest(request, session)
        if is_name(text) and present is not None and present.model is not None:
            try:
                return [*unchanged(self._views), find_layer(text, present.model.layers)]
            except UserError as problem:
                raise error_message(problem) from problem

        def change(state: PageState, present: Session | None) -> None:
            layer = state.view.layer
            if is_clustered(present, layer):
                units = search(text, layer_selection.unit_count(present, layer))
                state.select(present, units, "set", "search")

        return [*self._updates(request, session, change), gr.skip()]

    def add_neighbours(self, session: Session | None, request: gr.Request) -> list:
        """The units most like the selected ones are selected with them."""

        def change(state: PageState, present: Session | None) -> None:
            layer = state.view.layer
            if is_clustered(present, layer):
                chosen = state.selection.of(subject(present, layer)).ids
                state.select(present, unit_files.with_neighbours(present, layer, chosen), "set", "neighbours")

        return self._updates(request, session, change)

    def save(self, session: Session | None, asked: str, request: gr.Request) -> str:
        """A file's name and text, for the browser to save."""

        def name_and_text(state: PageState, present: Session | None) -> str:
            layer = state.view.layer
            if not is_clustered(present, layer):
                raise UserError("Open a layer first; then its units can be saved.")
            chosen = state.selection.of(subject(present, layer)).ids
            kind, _, form = str(asked).partition(".")
            return json.dumps(unit_files.file_of(present, layer, kind, form, chosen))

        return self._updates(request, session, lambda state, present: None, name_and_text)

    def clear_selection(self, session: Session | None, request: gr.Request) -> list:
        """Nothing is selected any more."""
        return self._updates(request, session, lambda state, present: state.select(present, [], "set", "nothing"))


def _check_view(projection: str, most: int, order: str) -> None:
    """UserError, as the page shows it, for a way to draw a layer that the page does not offer."""
    offered = {projection: [name for _, name in PROJECTIONS], most: [count for _, count in SAMPLES]}
    if order not in layer_selection.ORDERS or not all(value in choices for value, choices in offered.items()):
        raise error_message(UserError("The layer cannot be drawn that way; choose from the lists."))
