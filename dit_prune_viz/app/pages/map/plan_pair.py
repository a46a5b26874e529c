"""Two plans side by side: the reference, A, and the present one, in figures, maps and the layers that differ."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.map.plan_pair_view import CHOICES, COMPARED, describe, maps
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import plot

HINT = (
    "**Two plans side by side**: keep the present plan as A, change anything, and see how every layer differs. To "
    "compare their images, pin a run as the left side on the Compare page."
)


class Reference:
    """The plan A of one page; listeners that were triggered at the same time all see the newest.

    `lock` is held while an answer is worked out, so that what was forgotten meanwhile is not shown again.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict) -> Reference:
        return Reference()  # every page begins with one of its own, and a lock cannot be copied


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
    """What the section's buttons do; `reference` is the visitor's own, kept in the page's state."""

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def show(self, reference: Reference, session: Session | None, key: str, request: gr.Request) -> tuple:
        """Both plans, where there are two of one model."""
        with reference.lock:
            now, first = self._actions.newest(request.session_hash, session), reference.session
            if first is None or now is None or key not in COMPARED:
                return _closed()
            if now.report is None or first.model is not now.model:
                reference.session = None
                return _closed()
            opened = gr.update(visible=True)
            return opened, opened, opened, *map(plot.show, maps(first, now, key)), describe(first, now)

    def keep_present(self, reference: Reference, session: Session | None, key: str, request: gr.Request) -> tuple:
        """The present plan becomes A."""
        with reference.lock:
            reference.session = self._actions.newest(request.session_hash, session)
        return self.show(reference, session, key, request)

    def forget(self, reference: Reference) -> tuple:
        """There is no A any more."""
        with reference.lock:
            reference.session = None
        return _closed()

    def swap(self, reference: Reference, session: Session, request: gr.Request) -> Iterator[tuple]:
        """A becomes the present plan, and the present plan A."""

        def work(now: Session, report: Reporter) -> Session:
            first = reference.session
            if first is None or first.model is not now.model:
                return now
            reference.session = now
            return bring_back(first, now)

        yield from self._actions.run(request, session, work, step="swapped plans")


def build(frame: Frame, actions: Actions) -> tuple[gr.HTML, gr.HTML]:
    """Lay the section out inside the current gradio context and wire it; the two maps, whose clicks name a layer."""
    reference = gr.State(Reference())  # never an output: it changes in place
    layout, listeners = _lay_out(), PairListeners(actions)
    shown = [reference, frame.session, layout.statistic]
    layout.keep.click(listeners.keep_present, shown, layout.outputs, **INTERNAL)
    layout.swap.click(listeners.swap, [reference, frame.session], frame.outputs, **INTERNAL)
    # Once more, for an answer that was on its way already.
    layout.forget.click(listeners.forget, reference, layout.outputs, **INTERNAL).then(
        listeners.forget, reference, layout.outputs, **INTERNAL
    )
    gr.on(
        [frame.session.change, layout.statistic.input],
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
            swap = gr.Button("Swap A and this plan", size="sm", scale=0, min_width=180, visible=False, elem_id="swap")
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
