"""Two plans side by side: one that was kept as A and the present one, in figures, maps and the layers that differ."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from html import escape

import gradio as gr

from dit_prune_viz.app import formatting as words
from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.map import view as map_figures
from dit_prune_viz.app.session.drawn_model import name_of_session
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import plot as scatter

COMPARED = ("damage", "sparsity", "g_out")
CHOICES = [(map_figures.STATISTICS[key].label, key) for key in COMPARED]
MOST = 8
"""Layers named in the table, those first whose masks differ most."""

HINT = (
    "**Two plans side by side**: keep the present one as A, change anything, and see what became of every layer. The "
    "pictures of both are compared on the Compare page, where any run can be pinned as the left side."
)


class Kept:
    """The plan A of one page; listeners that were triggered at the same time all see the newest.

    `lock` is held while an answer is worked out, so that what was forgotten meanwhile is not shown again.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict) -> Kept:
        return Kept()  # every page begins with one of its own, and a lock cannot be copied


def build(frame: Frame, actions: Actions) -> tuple[gr.HTML, gr.HTML]:
    """Lay the section out inside the current gradio context and wire it; the two maps, whose clicks name a layer."""
    kept = gr.State(Kept())  # never an output: it changes in place
    with gr.Column(elem_id="plan-pair"):
        gr.Markdown(HINT, elem_classes="note")
        with gr.Row(equal_height=True, elem_id="plan-pair-tools"):
            keep = gr.Button("Keep this plan as A", size="sm", scale=0, min_width=180, elem_id="keep-plan")
            swap = gr.Button("Swap A and this plan", size="sm", scale=0, min_width=180, visible=False, elem_id="swap")
            forget = gr.Button("Forget A", size="sm", scale=0, min_width=100, visible=False, elem_id="forget-plan")
        with gr.Column(visible=False, elem_id="plan-pair-views") as views:
            statistic = gr.Dropdown(CHOICES, value="damage", label="Compared by", elem_id="plan-pair-statistic")
            with gr.Row(elem_classes="map-row"):
                left = scatter.plot(height=360, elem_id="plan-a-map")
                right = scatter.plot(height=360, elem_id="plan-b-map")
            table = gr.HTML("", elem_id="plan-pair-table", apply_default_css=False)

    shown = [swap, forget, views, left, right, table]

    def show(kept: Kept, session: Session | None, key: str, request: gr.Request) -> tuple:
        with kept.lock:
            now, first = actions.newest(request.session_hash, session), kept.session
            if first is None or now is None:
                return _closed()
            if now.report is None or first.model is not now.model:
                kept.session = None
                return _closed()
            opened = gr.update(visible=True)
            return opened, opened, opened, *map(scatter.show, maps(first, now, key)), describe(first, now)

    def keep_present(kept: Kept, session: Session | None, key: str, request: gr.Request) -> tuple:
        with kept.lock:
            kept.session = actions.newest(request.session_hash, session)
        return show(kept, session, key, request)

    def drop(kept: Kept) -> tuple:
        with kept.lock:
            kept.session = None
        return _closed()

    def swap_plans(kept: Kept, session: Session, request: gr.Request) -> Iterator[tuple]:
        def work(now: Session, report: Reporter) -> Session:
            first = kept.session
            if first is None or first.model is not now.model:
                return now
            kept.session = now
            return bring_back(first, now)

        yield from actions.run(request, session, work, step="swapped plans")

    keep.click(keep_present, [kept, frame.session, statistic], shown, **INTERNAL)
    swap.click(swap_plans, [kept, frame.session], frame.outputs, **INTERNAL)
    # Once more, for an answer that was on its way already.
    forget.click(drop, kept, shown, **INTERNAL).then(drop, kept, shown, **INTERNAL)
    gr.on(
        [frame.session.change, statistic.input],
        show,
        [kept, frame.session, statistic],
        shown,
        trigger_mode="always_last",
        **INTERNAL,
    )
    return left, right


def _closed() -> tuple:
    """Updates for the section while nothing is kept."""
    return *[gr.update(visible=False)] * 3, *[gr.skip()] * 3


def maps(first: Session, second: Session, key: str) -> list:
    """A heat map of each session, with colours that mean the same in both."""
    values = [*map_figures.values_of(first, key), *map_figures.values_of(second, key)]
    if map_figures.STATISTICS[key].log:
        values = [value for value in values if value > 0]
    limits = (min(values), max(values)) if values and min(values) < max(values) else None
    label = map_figures.STATISTICS[key].label
    return [
        map_figures.heat_figure(session, key, title=f"{name} · {label}", limits=limits)
        for name, session in (("A", first), ("This plan", second))
    ]


def describe(first: Session, second: Session) -> str:
    """Both plans in figures, and the layers whose masks differ most, as HTML. Both are of one model, and pruned."""
    differing = {name: mask.differing(second.masks[name]) for name, mask in first.masks.items()}
    changed = sum(differing.values())
    facts = [
        ("method", *(escape(name_of_session(session)) for session in (first, second))),
        ("sparsity", *(words.percent(session.report.achieved, 3) for session in (first, second))),
        ("remaining parameters", *(f"{session.report.remaining:,}" for session in (first, second))),
        ("predicted damage", *(words.percent(session.report.damage, 2) for session in (first, second))),
        ("layers ranked row by row", *(str(_by_row(session)) for session in (first, second))),
    ]
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>' for name, a, b in facts)
    head = '<thead><tr><th scope="col"></th><th scope="col">A</th><th scope="col">this plan</th></tr></thead>'
    layers = sum(count > 0 for count in differing.values())
    sentence = (
        "both keep and prune the same weights."
        if not changed
        else f"the masks differ in {changed:,} weights ({words.percent(changed / first.report.weights, 2)}) of "
        f"{layers} layer{'' if layers == 1 else 's'}."
    )
    searched = first.recipe.search or second.recipe.search
    sentence = f"Before better masks are looked for, {sentence}" if searched else sentence[0].upper() + sentence[1:]
    return (
        f'<table class="scores">{head}<tbody>{rows}</tbody></table><p class="note" role="status">{sentence}</p>'
        f"{_changes(first, second, differing)}"
    )


def _changes(first: Session, second: Session, differing: dict[str, int]) -> str:
    """The layers that differ most, each with both its sparsities and damages."""
    most = sorted((name for name, count in differing.items() if count), key=lambda name: -differing[name])[:MOST]
    if not most:
        return ""
    reports = [{layer.name: layer for layer in session.report.layers} for session in (first, second)]
    heads = ("layer", "weights that differ", "sparsity A", "this plan", "damage A", "this plan")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = []
    for name in most:
        a, b = (report[name] for report in reports)
        cells = (
            f"{differing[name]:,} ({words.percent(differing[name] / a.weights)})",
            words.percent(a.sparsity, 2),
            words.percent(b.sparsity, 2),
            words.percent(a.damage, 2),
            words.percent(b.damage, 2),
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _by_row(session: Session) -> int:
    return sum(layer.granularity == "row" for layer in session.report.layers)
