"""Layer: one layer's units, its clusters with a sparsity slider each, its saliencies and timesteps, all linked."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame, done, mistake
from dit_prune_viz.app.pages.layer import captions as layer_words
from dit_prune_viz.app.pages.layer import view as layer_view
from dit_prune_viz.app.pages.layer import visit as layer_page
from dit_prune_viz.app.pages.layer.visit import ALGORITHMS, AUTOMATIC, COUNTS, HINT, LayerPage
from dit_prune_viz.app.session import cluster_edits, layer_data
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.selection import find_layer, is_name, search
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table
from dit_prune_viz.app.widgets import plot as scatter
from dit_prune_viz.caching import Cache
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures.style import message

UNITS = [("rows", "row"), ("columns", "column"), ("weights", "weight")]
PROJECTIONS = [("plane", "plane"), ("PCA", "pca"), ("UMAP", "umap")]
SAMPLES = [("8,192", 8192), ("20,000", layer_view.MAX_DOTS), ("100,000", 100_000)]
SORTED = [("original order", "original"), ("cluster", "cluster"), ("energy", "energy")]
PAGES_BYTES = 4 << 20
"""Of what the server remembers about open Layer pages."""


@dataclass(frozen=True)
class LayerTab:
    """What the page needs to open a layer here: the picker, and the listener that shows what it holds."""

    picker: gr.Dropdown
    open_args: dict


def build(frame: Frame, actions: Actions) -> LayerTab:
    """Lay out the tab and wire it; the page decides when a layer is opened."""
    pages = Cache(PAGES_BYTES)
    with gr.Row(elem_classes="tab-controls"):
        picker = gr.Dropdown([], label="Layer", scale=6, min_width=280, elem_id="layer-picker")
        unit = gr.Dropdown(UNITS, value="row", label="Dots are", scale=2, min_width=90)
        projection = gr.Dropdown(PROJECTIONS, value="plane", label="Seen in", scale=2, min_width=85)
        most = gr.Dropdown(SAMPLES, value=layer_view.MAX_DOTS, label="Dots at most", scale=2, min_width=95)
        algorithm = gr.Dropdown(ALGORITHMS, value="kmeans", label="Clusters by", scale=3, min_width=120)
        k = gr.Dropdown(COUNTS, value=4, label="How many", scale=2, min_width=95)
    with gr.Row(elem_id="layer-views"):
        with gr.Column(scale=3, min_width=380):
            units = scatter.unit_plot(
                message(layer_page.EMPTY),
                height=470,
                elem_id="units",
                details=lambda asked: _details(actions, asked),
                frames=lambda asked: _frames(actions, asked),
            )
            selection = gr.Markdown(HINT, elem_classes="note", elem_id="selection")
            with gr.Row(elem_id="selection-tools"):
                find = gr.Textbox(
                    placeholder="Find units: 12, 40-60; or a layer: adaLN 3",
                    show_label=False,
                    container=False,
                    min_width=150,
                    scale=2,
                )
                carve = gr.Button("Make it a cluster", size="sm", min_width=110, elem_id="carve")
                clear = gr.Button("Select nothing", size="sm", min_width=100)
        with gr.Column(scale=2, min_width=300):
            importance = scatter.plot(message(layer_page.NO_IMPORTANCE), height=216, elem_id="importance")
            with gr.Row(elem_id="plane-tools"):
                order = gr.Dropdown(
                    SORTED, value="original", show_label=False, container=False, min_width=120, elem_id="plane-order"
                )
                overlay = gr.Checkbox(False, label="mask over it", container=False, min_width=100)
            cut = scatter.plot(message(layer_page.NO_CUT), height=158, elem_id="cut")
            lines = scatter.plot(message(layer_page.NO_LINES), height=150, elem_id="timesteps")
    table = cluster_table.table()
    how = gr.Markdown("", elem_classes="note", elem_id="how-clustered")
    choice = scatter.plot(message(""), height=190, elem_id="cluster-choice", visible=False)
    gr.Markdown(
        "A slider rebuilds the masks of this layer only; the other clusters keep the sparsity they have. The damages "
        "of the clusters add up to the layer's. Sparsity per cluster is this app's extension of DiT-Pruning, whose "
        "paper gives none.",
        elem_classes="note",
    )
    found_clusters = gr.State(0)  # how often a layer that was opened had to be clustered
    count = itertools.count(1)
    views = [units, importance, cut, lines, table, selection, unit, algorithm, k, how, choice]

    def page_of(request: gr.Request) -> LayerPage:
        return pages.get(request.session_hash, lambda: LayerPage(request.session_hash))

    def updates(
        request: gr.Request,
        session: Session | None,
        change: Callable[[LayerPage, Session], None],
        of: Callable[[LayerPage, Session], Any] = LayerPage.updates,
    ) -> Any:
        """The updates of all views, or what `of` says, after a change of what this page shows."""
        page = page_of(request)
        with page.lock:
            now = actions.newest(request.session_hash, session)
            try:
                change(page, now)
                return of(page, now)
            except UserError as problem:
                raise mistake(problem) from problem

    def refresh(session: Session | None, request: gr.Request) -> list:
        return updates(request, session, lambda page, now: None)

    def look(session: Session, projection: str, most: int, order: str, overlay: bool, request: gr.Request) -> Iterator:
        """The same layer seen otherwise; PCA and UMAP take a while the first time."""

        def change(page: LayerPage, now: Session) -> None:
            page.view = replace(page.view, projection=projection, most=most, order=order, overlay=bool(overlay))

        def work(session: Session, report: Reporter) -> Session:
            layer = page_of(request).view.layer
            if projection != "plane" and layer_view.is_clustered(session, layer):
                report(0, 1, f"Projecting {layer}")
                layer_data.projected(session, layer, session.clusters[layer].unit, projection, most, report)
            return session

        if projection != "plane":
            for update in actions.watch(request, session, work, step=None):
                if isinstance(update, Result):
                    break
                yield (*update, *_still(views))
            else:
                return
        bar = _still(frame.outputs)
        if projection != "plane":  # the session stays what it is, it may be another by now
            bar = [gr.skip(), *actions.looked(request.session_hash, actions.newest(request.session_hash, session))[1:]]
        yield (*bar, *updates(request, session, change))

    def show(layer: str, session: Session | None, request: gr.Request) -> list:
        """Updates of all views and of how they are projected, when another layer is looked at."""

        def change(page: LayerPage, now: Session) -> None:
            umap = page.view.projection == "umap" and layer != page.view.layer  # takes long, and was not asked for here
            page.view = replace(page.view, layer=layer, projection="plane" if umap else page.view.projection)

        return [*updates(request, session, change), page_of(request).view.projection]

    def reopen(session: Session | None, layer: str, request: gr.Request) -> list:
        """Show a layer that has clusters already, past the queue; of others nothing is known yet."""
        if layer_view.is_clustered(actions.newest(request.session_hash, session), layer):
            return show(layer, session, request)
        return [*_still(views), gr.skip()]

    def open_layer(
        session: Session, layer: str, unit: str, algorithm: str, k: int | str, request: gr.Request
    ) -> Iterator[tuple]:
        """Show a layer with the clusters it has, or with some found as the controls say."""
        if layer_view.is_clustered(actions.newest(request.session_hash, session), layer):
            yield (*_still(frame.outputs), *show(layer, session, request), gr.skip())
            return
        for update in _cluster(session, layer, unit, algorithm, k, request, step=None):
            if isinstance(update, Result):
                clustered = layer_view.is_clustered(update.value, layer)
                looked = (
                    actions.looked(request.session_hash, update.value)[1:] if clustered else _still(frame.outputs[1:])
                )
                # The session is handed on by `settle`: its listeners would keep the browser from drawing.
                yield (gr.skip(), *looked, *show(layer, update.value, request), next(count))
            else:
                yield (*update, *_still(views), gr.skip(), gr.skip())

    def _cluster(session, layer, unit, algorithm, k, request, step: str | None) -> Iterator:
        def work(session: Session, report: Reporter) -> Session:
            if session.plan is None or layer not in session.masks:
                return session
            report(0, 1, f"Clustering {layer}")
            by = ALGORITHMS[0][1] if algorithm == BY_HAND else algorithm
            return session.cluster(layer, unit, by, None if k == AUTOMATIC else k)

        return actions.watch(request, session, work, step=step)

    def cluster_anew(
        session: Session, layer: str, unit: str, algorithm: str, k: int | str, request: gr.Request
    ) -> Iterator[tuple]:
        for update in _cluster(session, layer, unit, algorithm, k, request, step=f"clusters of {layer}"):
            if isinstance(update, Result):
                yield (*done(update.value), *updates(request, update.value, lambda page, now: None))
            else:
                yield (*update, *_still(views))

    def set_sparsity(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        edits = actions.answer(
            request,
            session,
            lambda now, report: cluster_table.apply(now, event.edits, report),
            lambda changed: cluster_table.answer(event.number, changed=changed),
            step=cluster_table.step_name(event.edits),
        )
        for _, *rest in edits:
            yield (gr.skip(), *rest)  # the session is handed on by `settle`

    def settle(session: Session | None, request: gr.Request) -> Session | None:
        return actions.newest(request.session_hash, session)

    def make_cluster(session: Session, request: gr.Request) -> Iterator[tuple]:
        page = page_of(request)

        def work(session: Session, report: Reporter) -> Session:
            layer = page.view.layer
            if not len(page.selection.of(layer_view.subject(session, layer))):
                raise UserError("Nothing is selected; draw around dots first.")
            unit = session.need_clusters(layer).unit
            return cluster_edits.cluster_of_selection(session, layer, unit, page.selection.ids)

        yield from actions.run(request, session, work, step="a cluster of the selection")

    def select_in(origin: str, read: Callable[[gr.EventData, LayerPage, Session], np.ndarray]) -> Callable:
        """A listener that makes what `read` finds in the event the page's selection, and says what that is."""

        def listener(session: Session | None, request: gr.Request, event: gr.EventData) -> str:
            def change(page: LayerPage, now: Session) -> None:
                meant = getattr(event, "subject", None)  # of dots that another layer may have replaced meanwhile
                if meant and meant != layer_view.subject(now, page.view.layer):
                    return
                if layer_view.is_clustered(now, page.view.layer):
                    page.select(now, read(event, page, now), getattr(event, "mode", "set"), origin)

            return updates(request, session, change, LayerPage.in_words)

        return listener

    def found(session: Session | None, text: str, request: gr.Request) -> list:
        now = actions.newest(request.session_hash, session)
        if is_name(text) and now is not None and now.model is not None:
            try:
                return [*_still(views), find_layer(text, now.model.layers)]
            except UserError as problem:
                raise mistake(problem) from problem

        def change(page: LayerPage, now: Session) -> None:
            layer = page.view.layer
            if layer_view.is_clustered(now, layer):
                shape = now.model.layer(layer).shape
                page.select(now, search(text, count_units(shape, now.clusters[layer].unit)), "set", "search")

        return [*updates(request, session, change), gr.skip()]

    def forget(session: Session | None, request: gr.Request) -> list:
        return updates(request, session, lambda page, now: page.select(now, [], "set", "nothing"))

    open_args = {
        "fn": open_layer,
        "inputs": [frame.session, picker, unit, algorithm, k],
        "outputs": [*frame.outputs, *views, projection, found_clusters],
        "trigger_mode": "always_last",
        **INTERNAL,
    }
    seen = picker.select(
        reopen, [frame.session, picker], [*views, projection], trigger_mode="always_last", queue=False, **INTERNAL
    )
    seen.then(**open_args)
    gr.on(
        [c.input for c in (unit, algorithm, k)],
        **{**open_args, "fn": cluster_anew, "outputs": [*frame.outputs, *views]},
    )
    gr.on(
        [c.input for c in (projection, most, order, overlay)],
        look,
        [frame.session, projection, most, order, overlay],
        [*frame.outputs, *views],
        trigger_mode="always_last",
        **INTERNAL,
    )
    found_clusters.change(settle, frame.session, frame.session, **INTERNAL)
    # "always_last" would send the first event again, not the last; the events of both carry their own data.
    table.submit(settle, frame.session, frame.session, trigger_mode="multiple", **INTERNAL)
    table.input(set_sparsity, frame.session, [*frame.outputs, table], trigger_mode="multiple", **INTERNAL)
    selecting = {
        units.select: select_in("units", lambda event, page, now: scatter.ids_of(event)),
        importance.select: select_in("plane", _in_plane),
        cut.select: select_in("cut", _in_range),
        table.select: select_in("table", lambda e, page, now: _of_cluster(now, page, e.cluster)),
        lines.click: select_in("lines", lambda e, page, now: _of_cluster(now, page, e.id)),
    }
    for event, listener in selecting.items():
        # The words come at once, past the queue; the pictures take as long as they take.
        said = event(listener, frame.session, selection, trigger_mode="multiple", queue=False, **INTERNAL)
        said.then(refresh, frame.session, views, trigger_mode="always_last", **INTERNAL)
    find.submit(found, [frame.session, find], [*views, picker], **INTERNAL).success(**open_args)
    clear.click(forget, frame.session, views, **INTERNAL)
    carve.click(make_cluster, frame.session, frame.outputs, **INTERNAL)
    frame.session.change(refresh, frame.session, views, **INTERNAL)
    return LayerTab(picker, open_args)


def choices(session: Session) -> gr.Dropdown:
    """The picker for the session's model, at the layer worth looking at first."""
    layers = session.model.layers if session.model else ()
    named = [(f"{layer.name}  ·  {layer.kind}", layer.name) for layer in layers]
    return gr.Dropdown(choices=named, value=session.largest_heterogeneity() or (named[0][1] if named else None))


def _in_plane(event: gr.EventData, page: LayerPage, session: Session) -> np.ndarray:
    return layer_view.units_in_plane(session, page.view, event.range["x"], event.range["y"])


def _in_range(event: gr.EventData, page: LayerPage, session: Session) -> np.ndarray:
    low, high = sorted(event.range["x"])
    units = layer_view.units_in_range(session, page.view.layer, low, high)
    if not len(units):
        raise UserError("No unit has half of its weights in this range; drag over a wider one.")
    return units


def _of_cluster(session: Session, page: LayerPage, cluster: object) -> np.ndarray:
    return layer_view.units_of_cluster(session, page.view.layer, int(cluster))


def _asked_about(actions: Actions, asked: dict) -> tuple[Session, str] | None:
    """The session and the layer that the browser asks about; None if the page has moved on."""
    session = actions.newest(str(asked.get("owner", ""))) or actions.prepared()
    subject = str(asked.get("subject", ""))
    layer = subject.partition("/")[2].rpartition("/")[0]
    return (session, layer) if subject and layer_view.subject(session, layer) == subject else None


def _details(actions: Actions, asked: dict) -> str:
    about = _asked_about(actions, asked)
    return layer_words.describe_unit(*about, int(asked["id"])) if about else ""


def _frames(actions: Actions, asked: dict) -> str:
    """The heights of the dots that are drawn in every timestep bin, float32 in base64, bin after bin."""
    about = _asked_about(actions, asked)
    if about is None:
        return ""
    session, layer = about
    unit = session.clusters[layer].unit
    shown = layer_data.shown_units(session, layer, unit, "plane", int(asked["dots"]))
    return base64.b64encode(layer_data.frames(session, layer, unit, shown).astype("<f4").tobytes()).decode()


def _still(components: list) -> list:
    return [gr.skip() for _ in components]
