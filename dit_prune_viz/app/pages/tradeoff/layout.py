"""The components of the Trade-off page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import gradio as gr

from dit_prune_viz.app.session import tradeoff
from dit_prune_viz.app.session.tradeoff_categories import ALL
from dit_prune_viz.app.widgets import plot
from dit_prune_viz.app.widgets.choice import choice
from dit_prune_viz.app.widgets.number import whole_number
from dit_prune_viz.experiments.table import COLUMNS
from dit_prune_viz.generation.request import MAX_STEPS
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, SWEEPS

START = ("magnitude", "wanda", "dit-pruning")
SCORES = [(label, score) for score, label in COLUMNS.items()]
OVER = [("sparsity", tradeoff.SPARSITY), ("size", tradeoff.SIZE)]
NOTE = (
    "Choose recipes and sparsities, then press **Compare**: every recipe prunes to every sparsity and draws the same "
    "held-out prompts from the same noise as the dense model. What was measured is kept, also where a run is stopped."
)
MORE = (
    "* **the plan at hand** is measured as it is; like all others it is ranked anew on inputs held out from the "
    "prompts.\n* **int8** and **int4** prune nothing and round the same layers, for comparison.\n\n"
    "The same on the command line: `python -m dit_prune_viz sweep --out FOLDER`."
)
PROMPT_SETS = "Text with a prompt a line, CSV, TSV, JSON or JSON lines; several files are read as one set"
DAMAGE = (
    "**Predicted damage** needs no image: per layer Σ pruned W²·E[x²] / Σ W²·E[x²], averaged over layers by their "
    "weights. The plot sets it against what was measured: mean squared error of the final latents, against the dense "
    "model's."
)


@dataclass(frozen=True)
class RunFields:
    """What is compared, in the order in which the listeners take it."""

    methods: gr.CheckboxGroup
    levels: gr.Textbox
    prompts: gr.Number
    seeds: gr.Number
    steps: gr.Number
    start: gr.Button
    sweep: gr.Button
    prompt_set: gr.File
    preview: gr.HTML
    time: gr.Markdown

    @property
    def inputs(self) -> list:
        """All but the methods."""
        return [self.levels, self.prompts, self.seeds, self.steps, self.prompt_set]


@dataclass(frozen=True)
class ResultViews:
    """What is shown of the measurements; `files` are the downloads. by: which curves are drawn; it and the table of
    categories are there where the prompts have categories. over: sparsity or size."""

    score: gr.Dropdown
    by: gr.Dropdown
    over: gr.Radio
    curves: gr.HTML
    table: gr.HTML
    categories: gr.HTML
    files: list[gr.DownloadButton]
    damage: gr.HTML

    @property
    def outputs(self) -> list:
        return [self.curves, self.table, self.damage, *self.files]


def lay_out() -> tuple[RunFields, ResultViews]:
    """Lay the page out inside the current gradio context."""
    gr.Markdown(NOTE, elem_classes="note")
    return _run_fields(), _result_views()


def _run_fields() -> RunFields:
    methods = gr.CheckboxGroup(
        [("the plan at hand", tradeoff.AT_HAND), *((name, name) for name in (*NAMED_RECIPES, *SWEEPS))],
        value=list(START),
        label="Recipes",
        elem_id="tradeoff-methods",
    )
    with gr.Row(equal_height=True, elem_classes="tab-controls"):
        levels = gr.Textbox("30,50,70", label="Sparsities, % or N:M", scale=2, min_width=150, elem_id="tradeoff-levels")
        prompts = whole_number(8, "Prompts", 1, tradeoff.MAX_PROMPTS, scale=1, min_width=80, elem_id="tradeoff-prompts")
        seeds = whole_number(1, "Seeds", 1, tradeoff.MAX_SEEDS, scale=1, min_width=80, elem_id="tradeoff-seeds")
        steps = whole_number(20, "Steps", 1, MAX_STEPS, scale=1, min_width=80, elem_id="tradeoff-steps")
        start = gr.Button("Compare", variant="primary", scale=1, min_width=110, elem_id="tradeoff-run")
        sweep = gr.Button("Exponent sweep", scale=1, min_width=130, elem_id="tradeoff-sweep")
    time = gr.Markdown("", elem_classes="note", elem_id="tradeoff-time")
    with gr.Row():
        with gr.Accordion("Your own prompts", open=False):
            prompt_set = gr.File(
                label=PROMPT_SETS,
                file_count="multiple",
                file_types=list(tradeoff.PROMPT_FILES),
                type="filepath",
                height=140,
                elem_id="prompt-set",
            )
            preview = gr.HTML("", elem_id="prompt-preview", apply_default_css=False)
        with gr.Accordion("What the recipes do", open=False):
            gr.Markdown(f"{explain_methods()}\n{MORE}", elem_classes="note")
    return RunFields(methods, levels, prompts, seeds, steps, start, sweep, prompt_set, preview, time)


def _result_views() -> ResultViews:
    with gr.Row(elem_id="tradeoff-view"):
        score = gr.Dropdown(SCORES, value="ssim", label="Score", scale=2, min_width=130, elem_id="tradeoff-score")
        by = choice(
            [("recipes, all prompts", ALL)],
            value=ALL,
            label="Curves",
            scale=3,
            min_width=200,
            visible=False,
            elem_id="tradeoff-by",
        )
        over = gr.Radio(OVER, value=tradeoff.SPARSITY, label="Over", scale=2, min_width=190, elem_id="tradeoff-over")
    curves = plot.plot(tradeoff.EMPTY, height=420, elem_id="tradeoff-curves")
    table = gr.HTML("", elem_id="tradeoff-table", apply_default_css=False)
    categories = gr.HTML("", elem_id="tradeoff-categories", apply_default_css=False)
    with gr.Row():
        files = [
            gr.DownloadButton(kind, interactive=False, size="sm", elem_id=f"tradeoff-{kind.lower()}")
            for kind in ("CSV", "JSON", "PNG")
        ]
    gr.Markdown(DAMAGE, elem_classes="note")
    damage = plot.plot(tradeoff.NO_DAMAGE, height=380, elem_id="tradeoff-damage")
    return ResultViews(score, by, over, curves, table, categories, files, damage)


def explain_methods() -> str:
    """A line on every method, as Markdown."""
    return "\n".join(f"* **{escape(name)}**: {named.explanation}" for name, named in NAMED_RECIPES.items())
