"""The strip of earlier runs below the pictures: click one to go back to it, make one A to compare against it.

Its `submit` event asks for a run back, its `select` event to make it A or no longer; both carry its number as `id`. A
card can be dragged onto the picture of A, too.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from dit_prune_viz.app.session.runs import MAX_RUNS, Run, Runs
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/runs_strip.js")
EMPTY = (
    '<p class="note"><b>Versions</b> appear here, the newest first: click one to bring back its plan, prompts and seed '
    "with its pictures, or make it A to see it beside the next ones.</p>"
)


def strip() -> gr.HTML:
    return gr.HTML(
        EMPTY,
        html_template='<div class="runs-host"></div>',  # without the value, so that its script outlives every update
        js_on_load=SCRIPT,
        elem_id="runs",
        apply_default_css=False,
        padding=False,
    )


def show(runs: Runs) -> str:
    """The strip's value."""
    if not runs.runs:
        return EMPTY
    cards = "".join(_card(run, runs) for run in runs.runs)
    return f'<ol class="runs" aria-label="Earlier runs, the last {MAX_RUNS}">{cards}</ol>'


def _card(run: Run, runs: Runs) -> str:
    done = run.comparison
    request = done.requests[0]
    noun = run.prompts[0] if len(run.prompts) == 1 else f"{len(run.prompts)} prompts"
    drawn = f"{noun}, seed {request.seed}, {request.steps} steps"
    drawn += f", {request.frames} frames" if request.frames > 1 else ""
    drawn += ", own picture" if request.picture else ""
    figures = f"SSIM {done.ssim:.3f} · {done.told}"
    shown = runs.shown is not None and runs.shown.number == run.number
    is_a = runs.is_a(run)
    spoken = f"Go back to run {run.number}: {run.drawn.name}; {drawn}; {figures} to dense"
    return (
        f'<li class="run{" shown" if shown else ""}{" is-a" if is_a else ""}" draggable="true" '
        f'data-run="{run.number}">'
        f'<button type="button" data-does="restore" data-run="{run.number}" title="{escape(spoken)}" '
        f'aria-label="{escape(spoken)}" aria-current="{str(shown).lower()}">'
        f'<img src="{run.thumbnail}" alt="" draggable="false">'
        f'<span class="run-name">{run.number} · {escape(run.drawn.name)}</span>'
        f'<span class="run-detail">{escape(drawn)}</span>'
        f'<span class="run-figures">{escape(figures)}</span></button>'
        f'<button type="button" class="make-a" data-does="make-a" data-run="{run.number}" '
        f'aria-pressed="{str(is_a).lower()}" aria-label="Make run {run.number} A">'
        f"{'is A' if is_a else 'make A'}</button></li>"
    )
