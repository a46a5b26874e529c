"""Two plans side by side: the reference, A, and the present one, in figures, maps and the layers that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.map.plan_pair_view import CHOICES, COMPARED, describe, maps
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import plot

HINT = (
    "**Two plans side by side**: keep the present plan as A, change anything, and see how every layer of B, the plan "
    "of now, differs. The Compare page draws the same A beside B; a run that is made A there is A here."
)


@dataclass(frozen=True)
class PairLayout:
    """The section's components; left and right are the two maps."""

    keep: gr.Button
    swap: gr.Button
    forget: gr.Button
    views: gr.Column
    statistic: gr.Dropdown
    left: gr.HTML
    right: gr.HTML
    table: gr.HTML

    @property
    def outputs(self) -> list:
        return [self.swap, self.forget, self.views, self.left, self.right, self.table]


class PairListeners:
    """What the section's buttons do; `runs` is the visitor's own, with the one A of the page."""

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def show(self, runs: Runs, session: Session | None, key: str, request: gr.Request) -> tuple:
        """Both plans, where there are two of one model."""
        with runs.lock:
            now, first = self._actions.newest(request, session), runs.a
            if first is None or now is None or key not in COMPARED:
                return _closed()
            if now.report is None or first.session.model is not now.model:
                runs.follow(now)
                return _closed()
            opened = gr.update(visible=True)
            if not first.is_plan:  # a part of the model alone is A, which has no plan to be shown
                return gr.update(visible=False), opened, gr.update(visible=False), *[gr.skip()] * 3
            return opened, opened, opened, *map(plot.show, maps(first.session, now, key)), describe(first.session, now)

    def keep_present(self, runs: Runs, session: Session | None, key: str, request: gr.Request) -> tuple:
        """The present plan becomes A."""
        with runs.lock:
            now = self._actions.newest(request, session)
            if now is not None and now.plan is not None:
                runs.keep_as_a(now)
        return *self.show(runs, session, key, request), runs.changes

    def forget(self, runs: Runs) -> tuple:
        """There is no A any more."""
        with runs.lock:
            runs.forget_a()
        return *_closed(), runs.changes

    def swap(self, runs: Runs, session: Session, request: gr.Request) -> Iterator[tuple]:
        """A becomes the present plan, and the present plan A."""

        def work(now: Session, report: Reporter) -> Session:
            first = runs.a
            if first is None or not first.is_plan or first.session.model is not now.model:
                return now
            runs.keep_as_a(now)
            return bring_back(first.session, now)

        for updates in self._actions.run(request, session, work, step="swapped plans"):
            yield (*updates, runs.changes)


def build(frame: Frame, actions: Actions, runs: gr.State, a: gr.State) -> tuple[gr.HTML, gr.HTML]:
    """Lay the section out inside the current gradio context and wire it; the two maps, whose clicks name a layer.

    `runs` holds the A of the page, and `a` changes whenever another plan becomes A.
    """
    layout, listeners = _lay_out(), PairListeners(actions)
    shown = [runs, frame.session, layout.statistic]
    layout.keep.click(listeners.keep_present, shown, [*layout.outputs, a], **INTERNAL)
    layout.swap.click(listeners.swap, [runs, frame.session], [*frame.outputs, a], **INTERNAL)
    # Once more, for an answer that was on its way already.
    layout.forget.click(listeners.forget, runs, [*layout.outputs, a], **INTERNAL).then(
        listeners.forget, runs, [*layout.outputs, a], **INTERNAL
    )
    gr.on(
        [frame.shown.change, layout.statistic.input, a.change],
        listeners.show,
        shown,
        layout.outputs,
        trigger_mode="always_last",
        **INTERNAL,
    )
    return layout.left, layout.right


def _lay_out() -> PairLayout:
    with gr.Column(elem_id="plan-pair"):
        gr.Markdown(HINT, elem_classes="note")
        with gr.Row(equal_height=True, elem_id="plan-pair-tools"):
            keep = gr.Button("Keep this plan as A", size="sm", scale=0, min_width=180, elem_id="keep-plan")
            swap = gr.Button("Swap A and B", size="sm", scale=0, min_width=180, visible=False, elem_id="swap")
            forget = gr.Button("Forget A", size="sm", scale=0, min_width=100, visible=False, elem_id="forget-plan")
        with gr.Column(visible=False, elem_id="plan-pair-views") as views:
            statistic = gr.Dropdown(CHOICES, value="damage", label="Compared by", elem_id="plan-pair-statistic")
            with gr.Row(elem_classes="map-row"):
                left = plot.plot(height=360, elem_id="plan-a-map")
                right = plot.plot(height=360, elem_id="plan-b-map")
            table = gr.HTML("", elem_id="plan-pair-table", apply_default_css=False)
    return PairLayout(keep, swap, forget, views, statistic, left, right, table)


def _closed() -> tuple:
    """Updates for the section while nothing is kept."""
    return *[gr.update(visible=False)] * 3, *[gr.skip()] * 3
