"""What the Trade-off page does: run a comparison, whose table and curves grow meanwhile, and show another score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.tradeoff.layout import ResultViews
from dit_prune_viz.app.pages.updates import bar_updates, error_message, unchanged
from dit_prune_viz.app.session import tradeoff, tradeoff_time
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.prompt_upload import preview, uploaded_files
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Asked, Measured
from dit_prune_viz.app.session.tradeoff_categories import ALL, category_table, choices, curves_by
from dit_prune_viz.app.session.tradeoff_shipped import on_screen, with_files
from dit_prune_viz.app.widgets import plot
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.pruning.named_recipes import SWEEPS

SWEEP = next(iter(SWEEPS))
KEPT = "Cancelled; the rows that are finished stay."


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
        by: str = ALL,
        over: str = tradeoff.SPARSITY,
    ) -> Iterator[tuple]:
        """Every method at every sparsity; the updates are for `Frame.outputs`, the measurements and the views."""
        try:
            files = uploaded_files(prompt_set, Path(get_upload_folder()))
        except UserError as problem:
            raise error_message(problem) from problem
        asked = Asked(tuple(methods or ()), levels or "", prompts, seeds, steps, files or None)
        rows: list[Row] = []
        running: tuple[Session, Experiment] | None = None
        bar = unchanged(self._frame.outputs)

        space = self._actions.workspace(request)

        def work(session: Session, report: Reporter) -> tuple[Session, Measured]:
            nonlocal running
            running = session, tradeoff.plan_experiment(session, asked)

            def emit(row: Row) -> None:  # here, since the page may be gone by now
                rows.append(row)
                space.measured = Measured(tuple(rows), session.store.clip_name, categories=running[1].categories)
                report.emit(row)

            try:
                space.measured = tradeoff.measure(
                    session, asked, folder=self._folder, experiment=running[1], emit=emit, progress=report
                )
            except BaseException:
                if rows:  # what there is stays, and can be downloaded
                    space.measured = tradeoff.finished(*running, rows)
                raise
            return session, space.measured

        def stopped() -> tuple:
            return (*bar, *show_measured(running[0], space.measured, score, by, over))

        try:
            for update in self._actions.watch(request, session, work, kept=KEPT):
                if isinstance(update, Row):
                    yield (*bar, *show_measured(session, space.measured, score, by, over))
                elif isinstance(update, Result):
                    session, result = update.value
                    yield (*bar_updates(session, result.notice), *show_measured(session, result, score, by, over))
                    return
                else:
                    yield (*update, gr.skip(), *unchanged(self._views.outputs))
        except Exception:
            if rows:
                yield stopped()
            raise
        if rows:  # cancelled halfway
            yield stopped()

    def sweep_exponents(
        self,
        session,
        levels,
        prompts,
        seeds,
        steps,
        prompt_set,
        score,
        request: gr.Request,
        by: str = ALL,
        over: str = tradeoff.SPARSITY,
    ) -> Iterator[tuple]:
        """`compare` for |W|^m · ‖X‖ with six exponents m."""
        yield from self.compare(session, [SWEEP], levels, prompts, seeds, steps, prompt_set, score, request, by, over)


def show_prompts(given: object) -> str:
    """What an upload holds, as HTML; what is wrong with it, in a sentence, at the same place."""
    try:
        return preview(uploaded_files(given, Path(get_upload_folder())))
    except UserError as problem:
        return f'<div class="prompt-preview"><p role="alert">{escape(str(problem))}</p></div>'


def offer_categories(measured: Measured, score: str, by: str) -> tuple:
    """Updates for the choice of curves and the table of categories, where the prompts have some."""
    ways = choices(measured)
    kept = by if by in [value for _, value in ways] else ALL
    return gr.Dropdown(choices=ways, value=kept, visible=len(ways) > 1), category_table(measured, score)


def show_measured(
    session: Session | None, measured: Measured, score: str, by: str = ALL, over: str = tradeoff.SPARSITY
) -> tuple:
    """Updates for the page: measurements, curves, table, damage and the three downloads."""
    files = measured.files or (None, None, None)
    return (
        measured,
        show_curves(measured, score, by, over),
        tradeoff.table(measured.rows, measured.clip_name, measured.source),
        show_damage(session, measured),
        *(gr.DownloadButton(value=file, interactive=file is not None) for file in files),
    )


def show_idle(session: Session | None, measured: Measured, methods: Sequence[str], score, by, over) -> tuple:
    """Updates for the views while nothing was measured on the page: what comes with the app of the chosen methods."""
    if measured.rows:
        return (gr.skip(),) * 6
    shown = with_files(session, on_screen(session, measured, methods or ()))
    return show_measured(session, shown, score, by, over)[1:]


def show_time(session: Session | None, methods, levels, prompts, seeds, steps, prompt_set) -> str:
    """How much a comparison would be, and how long it would take; nothing where the fields do not hold together."""
    if session is None or session.model is None:
        return ""
    try:
        files = uploaded_files(prompt_set, Path(get_upload_folder()))
        asked = Asked(tuple(methods or ()), levels or "", prompts, seeds, steps, files or None)
        return tradeoff_time.in_words(session, tradeoff.plan_experiment(session, asked))
    except UserError:
        return ""  # what is wrong is said when it is started


def show_chosen(session: Session | None, measured: Measured, methods, score, by=ALL, over=tradeoff.SPARSITY) -> str:
    """The curves of what is on the page, drawn as is chosen."""
    return show_curves(on_screen(session, measured, methods or ()), score, by, over)


def show_curves(measured: Measured, score: str, by: str = ALL, over: str = tradeoff.SPARSITY) -> str:
    """The curves of one score, over sparsity or size."""
    return plot.show(curves_by(measured, score, by, over))


def show_damage(session: Session | None, measured: Measured) -> str:
    """Predicted against measured damage."""
    return plot.show(tradeoff.damage_figure(session, measured.rows))
