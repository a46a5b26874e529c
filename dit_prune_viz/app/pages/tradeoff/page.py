"""Trade-off: what sparsity costs, method against method; table and curves grow while the comparison runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame, idle
from dit_prune_viz.app.session import tradeoff
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Asked, Measured
from dit_prune_viz.app.widgets import plot as scatter
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.experiments.table import COLUMNS
from dit_prune_viz.figures.style import message
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, SWEEPS

START = ("magnitude", "wanda", "dit-pruning")
SCORES = [(label, score) for score, label in COLUMNS.items()]
SWEEP = next(iter(SWEEPS))
NOTE = (
    "Every method prunes to every sparsity and draws the same prompts from the same noises as the dense model. The "
    "prompts are held out from calibration. What has been measured stays: a run that was stopped goes on from there. "
    "The same on the command line: `python -m dit_prune_viz.experiments run --out FOLDER`."
)
DAMAGE = (
    "**Predicted damage** needs no picture: per layer Σ pruned W²·E[x²] / Σ W²·E[x²], averaged over layers by their "
    "weights. Beside it, what was measured: the mean squared error of the finished latents to the dense model's."
)


@dataclass(frozen=True)
class TradeoffTab:
    """The components that follow the model."""

    steps: gr.Number


def build(frame: Frame, actions: Actions, folder: Path | None = None) -> TradeoffTab:
    """Lay out the tab. Measurements are kept in `folder`, by default in the user's cache."""
    gr.Markdown(NOTE, elem_classes="note")
    methods = gr.CheckboxGroup(
        [*NAMED_RECIPES, *SWEEPS], value=list(START), label="Methods", elem_id="tradeoff-methods"
    )
    with gr.Accordion("What the methods do", open=False):
        gr.Markdown(_explain(), elem_classes="note")
    with gr.Row(equal_height=True, elem_classes="tab-controls"):
        levels = gr.Textbox("30,50,70", label="Sparsities, % or N:M", scale=2, min_width=150, elem_id="tradeoff-levels")
        prompts = gr.Number(8, label="Prompts", precision=0, scale=1, min_width=80, elem_id="tradeoff-prompts")
        seeds = gr.Number(1, label="Seeds", precision=0, scale=1, min_width=80, elem_id="tradeoff-seeds")
        steps = gr.Number(20, label="Steps", precision=0, scale=1, min_width=80, elem_id="tradeoff-steps")
        start = gr.Button("Compare", variant="primary", scale=1, min_width=110, elem_id="tradeoff-run")
        sweep = gr.Button("Exponent sweep", scale=1, min_width=130, elem_id="tradeoff-sweep")
    with gr.Accordion("A prompt set of your own", open=False):
        prompt_set = gr.File(
            label="A prompt a line, CSV/TSV with a column Prompt, or MJHQ-30K's meta_data.json",
            file_types=[".txt", ".csv", ".tsv", ".json"],
            type="filepath",
            height=140,
        )
    score = gr.Dropdown(SCORES, value="ssim", label="Score", scale=0, min_width=160, elem_id="tradeoff-score")
    plot = scatter.plot(message(tradeoff.EMPTY), height=420, elem_id="tradeoff-curves")
    table = gr.HTML("", elem_id="tradeoff-table", apply_default_css=False)
    with gr.Row():
        files = [
            gr.DownloadButton(kind, interactive=False, size="sm", elem_id=f"tradeoff-{kind.lower()}")
            for kind in ("CSV", "JSON", "PNG")
        ]
    gr.Markdown(DAMAGE, elem_classes="note")
    damage = scatter.plot(message("Measured damage appears here."), height=380, elem_id="tradeoff-damage")

    measured = gr.State(Measured())
    shown = [measured, plot, table, damage, *files]

    def compare(session, methods, levels, prompts, seeds, steps, prompt_set, score, request: gr.Request) -> Iterator:
        asked = Asked(tuple(methods or ()), levels or "", prompts, seeds, steps, prompt_set)
        rows: list[Row] = []
        clip_name = ""

        def work(session: Session, report: Reporter) -> tuple[Session, Measured]:
            nonlocal clip_name
            clip_name = session.store.clip_name
            return session, tradeoff.measure(session, asked, folder=folder, emit=report.emit, progress=report)

        for update in actions.watch(request, session, work):
            if isinstance(update, Row):
                rows.append(update)
                yield (*(gr.skip() for _ in frame.outputs), *_show(session, Measured(tuple(rows), clip_name), score))
            elif isinstance(update, Result):
                session, result = update.value
                yield (*idle(session, result.notice), *_show(session, result, score))
            else:
                yield (*update, *(gr.skip() for _ in shown))

    def sweep_exponents(session, levels, prompts, seeds, steps, prompt_set, score, request: gr.Request) -> Iterator:
        yield from compare(session, [SWEEP], levels, prompts, seeds, steps, prompt_set, score, request)

    settings = [levels, prompts, seeds, steps, prompt_set, score]
    start.click(compare, [frame.session, methods, *settings], [*frame.outputs, *shown], **INTERNAL)
    sweep.click(sweep_exponents, [frame.session, *settings], [*frame.outputs, *shown], **INTERNAL)
    score.input(_redraw, [measured, score], plot, **INTERNAL)
    frame.session.change(_redraw_damage, [frame.session, measured], damage, **INTERNAL)
    return TradeoffTab(steps)


def suggestions(session: Session | None) -> int:
    """Steps for the session's model."""
    return 20 if session is None or session.model is None else session.model.defaults.steps


def _show(session: Session | None, measured: Measured, score: str) -> tuple:
    """Updates for the tab: state, curves, table, damage and the three downloads."""
    files = measured.files or (None, None, None)
    return (
        measured,
        _redraw(measured, score),
        tradeoff.table(measured.rows, measured.clip_name),
        _redraw_damage(session, measured),
        *(gr.DownloadButton(value=file, interactive=file is not None) for file in files),
    )


def _redraw(measured: Measured, score: str) -> str:
    return scatter.show(tradeoff.curves(measured.rows, score))


def _redraw_damage(session: Session | None, measured: Measured) -> str:
    return scatter.show(tradeoff.damage_figure(session, measured.rows))


def _explain() -> str:
    return "\n".join(f"* **{escape(name)}**: {named.explanation}" for name, named in NAMED_RECIPES.items())
