"""The components of "Which part does what?" on the Compare page, and of "What does it paint?" on the Layer page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dit_prune_viz.app.session.drawn_model import ONLY, WITHOUT
from dit_prune_viz.app.session.parts import BLOCKS, CLUSTERS, GROUPS, KINDS_OF_LAYERS
from dit_prune_viz.app.widgets import part_grid, plot
from dit_prune_viz.app.widgets.choice import choice
from dit_prune_viz.app.widgets.number import number

WAYS = [
    ("blocks", BLOCKS),
    ("kinds of layers", KINDS_OF_LAYERS),
    ("groups on the Map", GROUPS),
    ("clusters of a layer", CLUSTERS),
]
MODES = [("remove each alone", WITHOUT), ("keep each alone", ONLY)]
CLUSTER_MODES = [("remove this cluster", WITHOUT), ("keep only this cluster of its layer", ONLY)]
NOTE = (
    "Draws the prompt above once for every part, with nothing but that part pruned, and compares each picture with the "
    "dense one. The measured error is that of the transformer's output on inputs that the calibration has not seen. "
    "Predicted damage is the share of output energy that goes, a mean over all layers by their weights (of clusters: "
    "of their layer). For blocks and kinds that are removed whole it is no more than their share of the weights."
)
LAYER_NOTE = (
    "**What does it paint?** Draws the Compare page's prompt without a cluster, or with nothing else left of this "
    "layer; all other layers stay dense."
)
EMPTY = "A card appears here for every part as soon as its picture is drawn."
EVERY = -1
"""Stands for all clusters of the layer."""


@dataclass(frozen=True)
class PartViews:
    """Where findings are shown. comparing: scatter and words about prediction and measurement, where there are any."""

    grid: gr.HTML
    comparing: tuple[gr.HTML, gr.HTML] | None = None

    @property
    def outputs(self) -> list[Any]:
        return [self.grid, *(self.comparing or ())]


@dataclass(frozen=True)
class PartFields:
    """What is taken apart on the Compare page, and how."""

    box: gr.Accordion
    by: gr.Dropdown
    layer: gr.Dropdown
    chosen: gr.Dropdown
    mode: gr.Dropdown
    sparsity: gr.Number
    measured: gr.Checkbox
    start: gr.Button
    views: PartViews

    @property
    def inputs(self) -> list[Any]:
        return [self.by, self.layer, self.chosen, self.mode, self.sparsity, self.measured]


@dataclass(frozen=True)
class PaintFields:
    """Which cluster of the open layer is drawn, and how."""

    cluster: gr.Dropdown
    mode: gr.Dropdown
    start: gr.Button
    views: PartViews


def lay_out() -> PartFields:
    """The Compare page's section, folded away."""
    with gr.Accordion("Which part does what?", open=False, elem_id="parts-box") as box:
        gr.Markdown(NOTE, elem_classes="note")
        with gr.Row(equal_height=True, elem_classes="tab-controls"):
            by = gr.Dropdown(WAYS, value=BLOCKS, label="Parts are", scale=2, min_width=130, elem_id="parts-by")
            layer = choice([], label="Layer", scale=3, min_width=140, visible=False, elem_id="parts-layer")
            chosen = choice(
                [],
                value=[],
                multiselect=True,
                label="Which (none: all)",
                scale=3,
                min_width=150,
                elem_id="parts-chosen",
            )
            mode = gr.Dropdown(MODES, value=WITHOUT, label="What to do", scale=2, min_width=140, elem_id="parts-mode")
            sparsity = number(100, "% pruned", 0, 100, scale=1, min_width=80, elem_id="parts-sparsity")
            start = gr.Button("Draw them", variant="primary", scale=1, min_width=120, elem_id="parts-start")
        measured = gr.Checkbox(True, label="measure the error of the transformer's output too", container=False)
        grid = part_grid.grid("parts-grid", EMPTY)
        with gr.Row(elem_id="parts-compared"):
            with gr.Column(scale=3, min_width=320):
                scatter = plot.plot("", height=340, elem_id="parts-scatter", visible=False)
            with gr.Column(scale=2, min_width=260):
                words = gr.HTML("", elem_id="parts-words", apply_default_css=False)
    views = PartViews(grid, (scatter, words))
    return PartFields(box, by, layer, chosen, mode, sparsity, measured, start, views)


def lay_out_clusters() -> PaintFields:
    """The Layer page's section, below the clusters."""
    with gr.Column(elem_id="layer-paints"):
        with gr.Row(equal_height=True, elem_classes="tab-controls"):
            cluster = choice([], label="Cluster", scale=3, min_width=180, elem_id="layer-paint-cluster")
            mode = gr.Dropdown(CLUSTER_MODES, value=WITHOUT, label="What to do with it", scale=3, min_width=180)
            start = gr.Button("What does it paint?", scale=1, min_width=170, elem_id="layer-paint-start")
        gr.Markdown(LAYER_NOTE, elem_classes="note")
        grid = part_grid.grid("layer-paint-grid", "")
    return PaintFields(cluster, mode, start, PartViews(grid))
