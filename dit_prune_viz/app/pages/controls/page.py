"""The left column, in order of use: model, calibration, method and what it consists of, sparsity."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.controls import known_models, recipe_fields
from dit_prune_viz.app.pages.updates import bar_updates, session_updates
from dit_prune_viz.app.session import measuring
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.session import MAX_SAMPLES, Session
from dit_prune_viz.app.widgets import plot
from dit_prune_viz.app.widgets.number import whole_number
from dit_prune_viz.experiments.convergence import Convergence
from dit_prune_viz.figures.convergence import convergence
from dit_prune_viz.generation.request import MAX_SEED

CONVERGENCE = "How much the present plan's masks still change when the model is calibrated on more inputs."
UNCALIBRATED = "Cancelled; the model is loaded but not calibrated. Press Calibrate to see its map."


def build(frame: Frame, actions: Actions, source: str) -> None:
    """Lay out the column inside the current gradio context and wire it."""
    with gr.Group(), gr.Row(elem_classes="beside"):
        model = gr.Textbox(source, label="Model: folder or hub id", lines=1, max_lines=1, min_width=120)
        load = gr.Button("Load", size="sm", scale=0, min_width=60)
    known_models.build(model)
    with gr.Group(), gr.Row(elem_classes="beside"):
        samples = whole_number(128, "Inputs", 1, MAX_SAMPLES, min_width=60)
        seed = whole_number(0, "Seed", 0, MAX_SEED, min_width=60)
        calibrate = gr.Button("Calibrate", size="sm", scale=0, min_width=76)
    with gr.Accordion("Are these inputs enough?", open=False, elem_id="convergence-box"):
        gr.Markdown(CONVERGENCE, elem_classes="note")
        converge = gr.Button("Compare 16 to 256 inputs", size="sm", elem_id="converge")
        told = gr.Markdown("", elem_classes="note", elem_id="convergence-words")
        curve = plot.plot("Not compared yet.", height=260, elem_id="convergence")
    recipe_fields.build(frame, actions)

    def load_model(session: Session, source: str, samples: float, seed: float, request: gr.Request) -> Iterator[tuple]:
        loaded = None
        load = actions.watch(request, session, lambda s, report: s.load_model(source, report).look(report))
        for update in load:
            loaded = update.value if isinstance(update, Result) else loaded
            if loaded is not None or isinstance(update, tuple):
                yield session_updates(loaded) if loaded is not None else update
        if loaded is not None:  # what is there can be looked at meanwhile, and stays if this is cancelled
            calibrated = actions.watch(
                request, loaded, lambda s, report: s.calibrate(samples, seed, report), step=None, kept=UNCALIBRATED
            )
            for update in calibrated:
                if isinstance(update, Result):
                    yield session_updates(update.value)
                elif isinstance(update, tuple):
                    yield update

    def run_calibration(session: Session, samples: float, seed: float, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, lambda s, report: s.calibrate(samples, seed, report))

    def run_convergence(session: Session, seed: float, request: gr.Request) -> Iterator[tuple]:
        def work(session: Session, report: Reporter) -> tuple:
            return session, measuring.converge(session, seed, report)

        for update in actions.watch(request, session, work):
            if isinstance(update, Result):
                session, found = update.value
                yield (*bar_updates(session), *_show(found))
            elif isinstance(update, tuple):
                yield (*update, gr.skip(), gr.skip())

    gr.on([load.click, model.submit], load_model, [frame.session, model, samples, seed], frame.outputs, **INTERNAL)
    calibrate.click(run_calibration, [frame.session, samples, seed], frame.outputs, **INTERNAL)
    converge.click(run_convergence, [frame.session, seed], [*frame.outputs, told, curve], **INTERNAL)


def _show(found: Convergence) -> tuple[str, str]:
    """The last doubling in a sentence, and the curves."""
    figure = convergence(found.sizes, found.changed, found.to_largest)
    before, largest = found.sizes[-2:]
    sentence = f"From {before} to {largest} inputs, {formatting.percent(found.changed[-1])} of the mask entries flip."
    return sentence, plot.show(figure)
