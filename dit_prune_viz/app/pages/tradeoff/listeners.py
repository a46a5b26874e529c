"""What the Trade-off page does: run a comparison, whose table and curves grow meanwhile, and show another score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from dit_prune_viz.app.pages.actions import Actions, Frame, bar_updates, error_message, unchanged
from dit_prune_viz.app.pages.tradeoff.layout import ResultViews
from dit_prune_viz.app.session import tradeoff
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Asked, Measured, uploaded_file
from dit_prune_viz.app.widgets import plot
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.pruning.named_recipes import SWEEPS

SWEEP = next(iter(SWEEPS))


class TradeoffListeners:
    """`folder` is where measurements are kept, None the user's cache."""

    def __init__(self, frame: Frame, actions: Actions, views: ResultViews, folder: Path | None) -> None:
        self._frame, self._actions, self._views, self._folder = frame, actions, views, folder

    def compare(
        self,
        session,
        methods: Sequence[str],
        levels: str,
        prompts,
        seeds,
        steps,
        prompt_set,
        score,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """Every method at every sparsity; the updates are for `Frame.outputs`, the measurements and the views."""
        try:
            prompt_set = uploaded_file(prompt_set, Path(get_upload_folder()))
        except UserError as problem:
            raise error_message(problem) from problem
        asked = Asked(tuple(methods or ()), levels or "", prompts, seeds, steps, prompt_set)
        rows: list[Row] = []
        clip_name = ""

        def work(session: Session, report: Reporter) -> tuple[Session, Measured]:
            nonlocal clip_name
            clip_name = session.store.clip_name
            return session, tradeoff.measure(session, asked, folder=self._folder, emit=report.emit, progress=report)

        for update in self._actions.watch(request, session, work):
            if isinstance(update, Row):
                rows.append(update)
                measured = Measured(tuple(rows), clip_name)
                yield (*unchanged(self._frame.outputs), *show_measured(session, measured, score))
            elif isinstance(update, Result):
                session, result = update.value
                yield (*bar_updates(session, result.notice), *show_measured(session, result, score))
            else:
                yield (*update, gr.skip(), *unchanged(self._views.outputs))

    def sweep_exponents(
        self, session, levels, prompts, seeds, steps, prompt_set, score, request: gr.Request
    ) -> Iterator[tuple]:
        """`compare` for |W|^m · ‖X‖ with six exponents m."""
        yield from self.compare(session, [SWEEP], levels, prompts, seeds, steps, prompt_set, score, request)


def show_measured(session: Session | None, measured: Measured, score: str) -> tuple:
    """Updates for the page: measurements, curves, table, damage and the three downloads."""
    files = measured.files or (None, None, None)
    return (
        measured,
        show_curves(measured, score),
        tradeoff.table(measured.rows, measured.clip_name),
        show_damage(session, measured),
        *(gr.DownloadButton(value=file, interactive=file is not None) for file in files),
    )


def show_curves(measured: Measured, score: str) -> str:
    """The curves of one score."""
    return plot.show(tradeoff.curves(measured.rows, score))


def show_damage(session: Session | None, measured: Measured) -> str:
    """Predicted against measured damage."""
    return plot.show(tradeoff.damage_figure(session, measured.rows))
