"""The strip of earlier runs below the pictures: click one to go back to it, pin one to compare against it.

Its `submit` event asks for a run back, its `select` event to pin it or take the pin out; both carry its number as `id`.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from dit_prune_viz.app import formatting as words
from dit_prune_viz.app.session.runs import MAX_RUNS, Run, Runs
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/runs_strip.js")
EMPTY = (
    '<p class="note"><b>Earlier runs</b> appear here, the newest first: click one to bring back its plan, prompts and '
    "seed with its pictures, or pin it to compare the next ones against it instead of the dense model.</p>"
)


def strip() -> gr.HTML:
    return gr.HTML(
        EMPTY, html_template="${value}", js_on_load=SCRIPT, elem_id="runs", apply_default_css=False, padding=False
    )


def show(runs: Runs) -> str:
    """The strip's value."""
    if not runs.runs:
        return EMPTY
    cards = "".join(_card(run, runs) for run in runs.runs)
    return f'<p class="note" role="status">{_head(runs)}</p><ol class="runs" aria-label="Earlier runs">{cards}</ol>'


def _head(runs: Runs) -> str:
    if runs.pinned is None:
        return f"<b>Earlier runs</b>, the last {MAX_RUNS}. New pictures are compared with the dense model."
    name = f'<b class="pinned">{escape(runs.pinned.name)}</b>'
    return f"<b>Earlier runs</b>, the last {MAX_RUNS}. New pictures are compared with {name}, not with the dense model."


def _card(run: Run, runs: Runs) -> str:
    done = run.comparison
    request = done.requests[0]
    noun = run.prompts[0] if len(run.prompts) == 1 else f"{len(run.prompts)} prompts"
    drawn = f"{noun}, seed {request.seed}, {request.steps} steps"
    drawn += f", {request.frames} frames" if request.frames > 1 else ""
    drawn += ", own picture" if request.picture else ""
    figures = f"Δ CLIP {words.signed(done.delta)} · SSIM {done.ssim:.3f}"
    shown = runs.shown is not None and runs.shown.number == run.number
    pinned = runs.pinned is not None and runs.pinned.number == run.number
    spoken = f"Go back to run {run.number}: {run.drawn.name}; {drawn}; {figures} to {done.left.name}"
    return (
        f'<li class="run{" shown" if shown else ""}{" pinned" if pinned else ""}">'
        f'<button type="button" data-does="restore" data-run="{run.number}" title="{escape(spoken)}" '
        f'aria-label="{escape(spoken)}" aria-current="{str(shown).lower()}">'
        f'<img src="{run.thumbnail}" alt="">'
        f'<span class="run-name">{run.number} · {escape(run.drawn.name)}</span>'
        f'<span class="run-detail">{escape(drawn)}</span>'
        f'<span class="run-figures">{figures}</span>'
        f'<span class="run-detail">to {escape(done.left.name)}</span></button>'
        f'<button type="button" class="pin" data-does="pin" data-run="{run.number}" '
        f'aria-pressed="{str(pinned).lower()}" aria-label="Compare against run {run.number}">'
        f"{'✓ left side' if pinned else 'compare against'}</button></li>"
    )
