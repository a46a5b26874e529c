"""The Trade-off page's 2:4 part, without the page: a session's plan on the GPU's 2:4 kernels, in figures and words."""

from __future__ import annotations

from collections import Counter
from html import escape

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.generation.step_time import StepTime, step_time
from dit_prune_viz.masks.sparse_kernels import why_not

READY = "Prune with the granularity 2:4, then measure: every layer shape is tried with each 2:4 kernel of this GPU."
NO_MODEL = "Load a model first."


def note(session: Session | None) -> str:
    """What the part offers for a session's model, or why it cannot."""
    if session is None or session.model is None:
        return NO_MODEL
    return why_not(session.model.device, session.model.dtype) or READY


def possible(session: Session | None) -> bool:
    """Whether there is anything to measure."""
    return note(session) == READY


def measure(session: Session, progress: Progress | None = None) -> StepTime:
    """Time the session's pruned model with 2:4 kernels against the dense one.

    Raises:
        UserError: as in `step_time`, at once where the GPU has no such kernels.
    """
    model = session.need_plan()[0]
    problem = why_not(model.device, model.dtype)
    if problem:
        raise UserError(problem)
    return step_time(model, drawn_model.of_session(session, progress).layers, progress=progress)


def summary(found: StepTime) -> str:
    """What came of it, in two sentences."""
    if found.sparse_ms is None:
        return (
            f"No layer shape gains from a 2:4 kernel on the {found.card}; a dense call takes {found.dense_ms:.1f} ms."
        )
    compiled = ", both compiled" if found.compiled else ""
    kernels = ", ".join(f"{count} on {name}" for name, count in Counter(found.faster.values()).items())
    return (
        f"One call of the transformer takes {found.sparse_ms:.1f} ms with 2:4 kernels and {found.dense_ms:.1f} ms "
        f"dense ({found.dense_ms / found.sparse_ms:.2f}× as fast{compiled}; {found.card}). {len(found.faster)} layers "
        f"take part ({kernels}), {len(found.dense)} do not. Outputs differ from the masked model's by "
        f"{found.error:.1e}."
    )


def table(found: StepTime) -> str:
    """The trials as an HTML table, a line per shape and kernel."""
    heads = ("layer shape", "tokens", "kernel", "dense, ms", "2:4, ms", "× as fast", "difference", "")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    lines = []
    for trial in found.trials:
        shape = trial.shape
        ran = trial.ms is not None
        cells = (
            f"{shape.tokens:,}",
            trial.kernel,
            f"{trial.dense_ms:.3f}",
            f"{trial.ms:.3f}" if ran else "–",
            f"{trial.dense_ms / trial.ms:.2f}" if ran else "–",
            f"{trial.error:.1e}" if ran else "–",
            trial.failure or ("" if trial.usable else "differs too much"),
        )
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{shape.d_out} × {shape.d_in}</th>{row}</tr>')
    table = (
        '<table class="clusters tradeoff"><caption>Every shape with every kernel</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )
    return f"{formatting.wide_table(table, 'Speed of every shape')}{_layers(found)}"


def _layers(found: StepTime) -> str:
    """Which layers take part, folded away."""
    if not found.faster:
        return ""
    items = "".join(f"<li>{escape(name)}: {escape(kernel)}</li>" for name, kernel in found.faster.items())
    return f"<details><summary>Layers on a 2:4 kernel</summary><ul>{items}</ul></details>"
