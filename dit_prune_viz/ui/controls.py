"""The left column, in order of use: model, calibration, method, granularity, sparsity."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame
from dit_prune_viz.ui.session import Session, Settings
from dit_prune_viz.ui.topbar import METHOD_NAMES

GRANULARITIES = [
    ("As the method's paper", "auto"),
    ("CAG: by heterogeneity", "cag"),
    ("Whole layer", "layer"),
    ("Each output row", "row"),
]


def build(frame: Frame, actions: Actions, source: str) -> None:
    """Lay out the column inside the current gradio context and wire it."""
    with gr.Group():
        model = gr.Textbox(source, label="Model", info="Hugging Face id or diffusers folder", lines=1, max_lines=1)
        load = gr.Button("Load", size="sm")
    with gr.Group():
        with gr.Row(equal_height=True):
            samples = gr.Number(128, label="Model inputs", precision=0, min_width=100)
            seed = gr.Number(0, label="Seed", precision=0, min_width=70)
        calibrate = gr.Button("Calibrate", size="sm")
    defaults = Settings()
    with gr.Group():
        method = gr.Radio(
            [(label, name) for name, label in METHOD_NAMES.items()],
            value=defaults.method,
            label="Method",
            elem_classes="stacked",
        )
        granularity = gr.Dropdown(GRANULARITIES, value=defaults.granularity, label="Weights are ranked inside")
        sparsity = gr.Slider(
            0, 100, value=100 * defaults.sparsity, step=1, label="Global sparsity, %", elem_id="sparsity"
        )
    gr.Markdown("Any change here prunes the whole model anew, clusters set by hand included.", elem_classes="note")

    def load_model(session: Session, source: str, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, lambda s, report: s.load_model(source, report))

    def run_calibration(session: Session, samples: float, seed: float, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, lambda s, report: s.calibrate(samples, seed, report))

    def prune(session: Session, method: str, granularity: str, share: float, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(
            request, session, lambda s, report: s.prune(method, granularity, share / 100, progress=report)
        )

    gr.on([load.click, model.submit], load_model, [frame.session, model], frame.outputs, **INTERNAL)
    calibrate.click(run_calibration, [frame.session, samples, seed], frame.outputs, **INTERNAL)
    gr.on(
        [method.input, granularity.input, sparsity.input],
        prune,
        [frame.session, method, granularity, sparsity],
        frame.outputs,
        trigger_mode="always_last",
        **INTERNAL,
    )
