"""Layer: one layer's units, clusters with a sparsity slider each, and what the cut does to its saliencies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.errors import UserError
from dit_prune_viz.figures.style import message
from dit_prune_viz.ui import cluster_table, layer_view, scatter, words
from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame, done, mistake
from dit_prune_viz.ui.jobs import Reporter, Result
from dit_prune_viz.ui.session import Session

EMPTY = "A layer appears here once the model is calibrated."
NO_CUT = "Its saliencies, and where they are cut."
NO_IMPORTANCE = "Where in the layer they lie."
HINT = "Draw around dots to see what they hold."
UNITS = [("rows", "row"), ("columns", "column"), ("weights", "weight")]
ALGORITHMS = [("k-means", "kmeans"), ("Gaussian mixture", "gmm"), ("HDBSCAN", "hdbscan")]
PROJECTIONS = [("plane", "plane"), ("PCA", "pca"), ("UMAP", "umap")]
AUTOMATIC = "auto"
NOTHING = ("", ())
COUNTS = [("automatic", AUTOMATIC), *((str(k), k) for k in range(1, 11))]


@dataclass(frozen=True)
class LayerTab:
    """What the page needs to open a layer here: the picker, and the listener that shows what it holds."""

    picker: gr.Dropdown
    open_args: dict


def build(frame: Frame, actions: Actions) -> LayerTab:
    """Lay out the tab and wire it; the page decides when a layer is opened."""
    with gr.Row(elem_classes="tab-controls"):
        picker = gr.Dropdown([], label="Layer", scale=6, min_width=320, elem_id="layer-picker")
        unit = gr.Dropdown(UNITS, value="row", label="Dots are", scale=2, min_width=120)
        projection = gr.Dropdown(PROJECTIONS, value="plane", label="Seen in", scale=2, min_width=95)
        algorithm = gr.Dropdown(ALGORITHMS, value="kmeans", label="Clusters by", scale=3, min_width=150)
        k = gr.Dropdown(COUNTS, value=4, label="How many", scale=2, min_width=110)
    with gr.Row():
        with gr.Column(scale=3, min_width=380):
            units = scatter.plot(message(EMPTY), height=480, elem_id="units")
            selection = gr.Markdown(HINT, elem_classes="note", elem_id="selection")
        with gr.Column(scale=2, min_width=300):
            cut = scatter.plot(message(NO_CUT), height=240, elem_id="cut")
            importance = scatter.plot(message(NO_IMPORTANCE), height=262, elem_id="importance")
    table = cluster_table.table()
    picked = gr.State(NOTHING)  # the clustering that was drawn in, and the indices of the units inside the lasso
    gr.Markdown(
        "A slider rebuilds the masks of this layer only; the other clusters keep the sparsity they have. The damages "
        "of the clusters add up to the layer's. Sparsity per cluster is this app's extension of DiT-Pruning, whose "
        "paper gives none.",
        elem_classes="note",
    )

    def open_layer(
        session: Session, layer: str, unit: str, projection: str, algorithm: str, k: int | str, request: gr.Request
    ) -> Iterator[tuple]:
        drawn = scatter.show(message(EMPTY))

        def work(session: Session, report: Reporter) -> Session:
            if session.plan is None or layer not in session.masks:
                return session
            report(0, 1, f"Clustering {layer}")
            found = _clustered(session, layer, unit, algorithm, None if k == AUTOMATIC else k)
            report.emit(scatter.show(layer_view.units_figure(found, layer, projection)))
            return found

        for update in actions.watch(request, session, work):
            if isinstance(update, str):
                drawn = update
            elif isinstance(update, Result):
                found = update.value
                frames = done(found) if layer_view.is_clustered(found, layer) else _still(frame.outputs)
                yield (*frames, drawn, NOTHING, *show_costs(found, layer))
            else:
                yield (*update, *_still([units, picked, *costs]))

    def set_sparsity(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        changed = False

        def work(session: Session, report: Reporter) -> Session:
            nonlocal changed
            after = cluster_table.apply(session, event.edits)
            changed = after is not session
            return after

        refused = (*_still(frame.outputs), cluster_table.answer(event.number, changed=False))
        try:
            for update in actions.watch(request, session, work):
                if isinstance(update, Result):
                    yield (*done(update.value), cluster_table.answer(event.number, changed=changed))
                    return
                yield (*update, gr.skip())
        except Exception:
            yield refused
            raise
        yield refused

    costs = [table, cut, importance]
    chosen = [frame.session, picker, unit, projection, algorithm, k]
    open_args = {
        "fn": open_layer,
        "inputs": chosen,
        "outputs": [*frame.outputs, units, picked, *costs],
        "trigger_mode": "always_last",
        **INTERNAL,
    }
    gr.on([c.input for c in (picker, unit, projection, algorithm, k)], **open_args)
    # "always_last" would send the first event again, not the last; the events of both carry their own data.
    table.input(set_sparsity, frame.session, [*frame.outputs, table], trigger_mode="multiple", **INTERNAL)
    units.select(_picked, None, picked, trigger_mode="multiple", **INTERNAL)
    gr.on(
        [picked.change, frame.session.change],
        describe_selection,
        [frame.session, picker, picked],
        selection,
        **INTERNAL,
    )
    frame.session.change(show_costs, [frame.session, picker], costs, **INTERNAL)
    return LayerTab(picker, open_args)


def choices(session: Session) -> gr.Dropdown:
    """The picker for the session's model, at the layer worth looking at first."""
    layers = session.model.layers if session.model else ()
    named = [(f"{layer.name}  ·  {layer.kind}", layer.name) for layer in layers]
    return gr.Dropdown(choices=named, value=session.largest_heterogeneity() or (named[0][1] if named else None))


def show_costs(session: Session | None, layer: str | None) -> tuple[str, str, str]:
    """What follows every slider: the cluster table, the histogram with the cut, the importance plane."""
    table = cluster_table.show(session, layer)
    if not layer_view.is_clustered(session, layer):
        return table, scatter.show(message(NO_CUT)), scatter.show(message(NO_IMPORTANCE))
    return table, *map(scatter.show, (layer_view.cut_figure(session, layer), layer_view.plane_figure(session, layer)))


def _picked(event: gr.EventData) -> tuple[str, tuple[int, ...]]:
    return event.subject, tuple(event.ids)


def describe_selection(session: Session | None, layer: str | None, picked: tuple[str, tuple[int, ...]]) -> str:
    """What the lasso holds and costs under the present masks, in words.

    `picked` is the clustering that was drawn in and the units; a lasso of clusters that are gone says nothing.
    """
    clustering, units = picked
    if not units or not layer_view.is_clustered(session, layer):
        return HINT
    if clustering != layer_view.clustering_id(session, layer):
        return HINT
    try:
        found = layer_view.figures_of_selection(session, layer, units)
    except UserError as problem:
        raise mistake(problem) from problem
    noun = session.clusters[layer].unit + ("" if found.units == 1 else "s")
    return (
        f"**{found.units:,} {noun} selected** · {words.count(found.weights)} weights · "
        f"{words.percent(found.energy)} of the layer's energy · sparsity {words.percent(found.sparsity)} · "
        f"predicted damage {words.percent(found.damage, 2)}"
    )


def _clustered(session: Session, layer: str, unit: str, algorithm: str, k: int | None) -> Session:
    """The session with these clusters on the layer; the same session if it has them already."""
    if session.asked.get(layer) == (unit, algorithm, k):
        return session
    return session.cluster(layer, unit, algorithm, k)


def _still(components: list) -> list:
    return [gr.skip() for _ in components]
