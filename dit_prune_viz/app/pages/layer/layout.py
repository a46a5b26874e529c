"""The components of the Layer page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.layer.captions import HINT
from dit_prune_viz.app.pages.layer.view import MAX_DOTS
from dit_prune_viz.app.pages.parts.layout import PaintFields, lay_out_clusters
from dit_prune_viz.app.session.unit_files import CLUSTERS, NEIGHBOURS, SELECTION
from dit_prune_viz.app.widgets import cluster_table, plot
from dit_prune_viz.app.widgets.choice import choice

EMPTY = "A layer appears here once the model is calibrated."
NO_PLANE = "Where in the layer the important weights are."
NO_CUT = "The layer's saliencies, and where the mask cuts them."
NO_TIMESTEPS = "How the layer's activations change while an image is denoised."
AUTOMATIC = "auto"
ALGORITHMS = [("k-means", "kmeans"), ("Gaussian mixture", "gmm"), ("HDBSCAN", "hdbscan")]
COUNTS = [("auto", AUTOMATIC), *((str(k), k) for k in range(1, 11))]
UNITS = [("rows", "row"), ("columns", "column"), ("weights", "weight")]
PROJECTIONS = [("weight × activation", "plane"), ("PCA", "pca"), ("UMAP", "umap")]
SAMPLES = [("8,192", 8192), ("20,000", MAX_DOTS), ("100,000", 100_000)]
SORTED = [("original order", "original"), ("cluster", "cluster"), ("energy", "energy")]
FILES = [
    (f"{kind}, {form.upper()}", f"{kind}.{form}")
    for kind in (SELECTION, NEIGHBOURS, CLUSTERS)
    for form in ("json", "csv")
]
FIRST = (
    "Each dot is a row, column or weight of one layer, coloured by cluster: its weights grow to the right, its "
    "activations upwards. Select dots to see where they lie, and give each cluster its own sparsity in the table below."
)
NOTE = (
    "A slider rebuilds this layer's masks only; the other clusters keep their sparsity. The clusters' damages add up "
    "to the layer's. Sparsity per cluster is this app's extension of DiT-Pruning; the paper does not define one."
)


@dataclass(frozen=True)
class Controls:
    """The row above the views: which layer, how it is clustered, how its units are drawn."""

    picker: gr.Dropdown
    unit: gr.Dropdown
    projection: gr.Dropdown
    most: gr.Dropdown
    algorithm: gr.Dropdown
    k: gr.Dropdown


@dataclass(frozen=True)
class UnitViews:
    """The dots, and what is done with a selection of them. file: hidden, a file on its way to the browser."""

    units: gr.HTML
    selection: gr.Markdown
    find: gr.Textbox
    carve: gr.Button
    near: gr.Button
    clear: gr.Button
    save_as: gr.Dropdown
    save: gr.Button
    file: gr.Textbox


@dataclass(frozen=True)
class SideViews:
    """The importance plane with its controls, the saliencies and the timesteps."""

    plane: gr.HTML
    order: gr.Dropdown
    overlay: gr.Checkbox
    cut: gr.HTML
    timesteps: gr.HTML


@dataclass(frozen=True)
class LayerLayout:
    """The whole page. table, clustering, choice: the clusters, how they were found, and how many were tried."""

    controls: Controls
    dots: UnitViews
    side: SideViews
    table: gr.HTML
    clustering: gr.Markdown
    choice: gr.HTML
    paints: PaintFields

    @property
    def views(self) -> list:
        """What `PageState.updates` updates, in its order."""
        return [
            self.dots.units,
            self.side.plane,
            self.side.cut,
            self.side.timesteps,
            self.table,
            self.dots.selection,
            self.controls.unit,
            self.controls.algorithm,
            self.controls.k,
            self.clustering,
            self.choice,
        ]


def lay_out(details: Callable[[dict], str], frames: Callable[[dict], str]) -> LayerLayout:
    """Lay the page out inside the current gradio context; `details` and `frames` as in `plot.unit_plot`."""
    gr.Markdown(FIRST, elem_classes="note")
    controls = _controls()
    with gr.Row(elem_id="layer-views"):
        with gr.Column(scale=3, min_width=380):
            dots = _unit_views(details, frames)
        with gr.Column(scale=2, min_width=300):
            side = _side_views()
    table = cluster_table.table()
    clustering = gr.Markdown("", elem_classes="note", elem_id="how-clustered")
    choice = plot.plot("", height=190, elem_id="cluster-choice", visible=False)
    gr.Markdown(NOTE, elem_classes="note")
    return LayerLayout(controls, dots, side, table, clustering, choice, lay_out_clusters())


def _controls() -> Controls:
    with gr.Row(elem_classes="tab-controls"):
        return Controls(
            picker=choice([], label="Layer", scale=6, min_width=240, elem_id="layer-picker"),
            unit=gr.Dropdown(UNITS, value="row", label="Dots are", scale=2, min_width=90),
            projection=gr.Dropdown(PROJECTIONS, value="plane", label="View", scale=4, min_width=150),
            most=gr.Dropdown(SAMPLES, value=MAX_DOTS, label="Max. dots", scale=2, min_width=95),
            algorithm=choice(ALGORITHMS, value="kmeans", label="Clustered by", scale=3, min_width=120),
            k=choice(COUNTS, value=4, label="How many", scale=2, min_width=95),
        )


def _unit_views(details: Callable[[dict], str], frames: Callable[[dict], str]) -> UnitViews:
    units = plot.unit_plot(EMPTY, height=470, elem_id="units", details=details, frames=frames)
    selection = gr.Markdown(HINT, elem_classes="note", elem_id="selection")
    with gr.Row(elem_id="selection-tools"):
        find = gr.Textbox(
            placeholder="Find units: 12, 40-60; or a layer: adaLN 3",
            show_label=False,
            container=False,
            min_width=150,
            scale=2,
        )
        carve = gr.Button("Make a cluster", size="sm", min_width=110, elem_id="carve")
        near = gr.Button("Add neighbours", size="sm", min_width=110, elem_id="add-neighbours")
        clear = gr.Button("Clear selection", size="sm", min_width=100)
    with gr.Row(elem_id="selection-files"):
        save_as = gr.Dropdown(FILES, value=FILES[0][1], show_label=False, container=False, min_width=170, scale=2)
        save = gr.Button("Save", size="sm", min_width=70, scale=0, elem_id="save-units")
        file = gr.Textbox(visible="hidden", elem_id="units-file")
    return UnitViews(units, selection, find, carve, near, clear, save_as, save, file)


def _side_views() -> SideViews:
    plane = plot.plot(NO_PLANE, height=216, elem_id="importance")
    with gr.Row(elem_id="plane-tools"):
        order = gr.Dropdown(
            SORTED, value="original", show_label=False, container=False, min_width=120, elem_id="plane-order"
        )
        overlay = gr.Checkbox(False, label="overlay mask", container=False, min_width=100)
    cut = plot.plot(NO_CUT, height=158, elem_id="cut")
    timesteps = plot.plot(NO_TIMESTEPS, height=150, elem_id="timesteps")
    return SideViews(plane, order, overlay, cut, timesteps)
