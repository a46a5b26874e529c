"""What the Take away page does: write the pruned model in one way, open a recipe, and follow the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.actions import Actions, Frame, bar_updates, error_message, session_updates, unchanged
from dit_prune_viz.app.pages.takeaway.layout import TakeawayLayout
from dit_prune_viz.app.session import takeaway
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.recipe_io import open_recipe, recipe_words
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import uploaded_file
from dit_prune_viz.errors import UserError

NOTHING = "Prune the model first; then it can be taken away."


@dataclass(frozen=True)
class Sources:
    """What other pages have found that a report shows: comparisons, and the rows of the trade-off."""

    runs: gr.State
    measured: gr.State


class TakeawayListeners:
    """`folder` is where everything is written."""

    def __init__(
        self, frame: Frame, actions: Actions, layout: TakeawayLayout, sources: Sources, folder: Path
    ) -> None:
        self._frame, self._actions, self._layout, self._folder = frame, actions, layout, folder

    def write(self, way: str) -> Callable[..., Iterator[tuple]]:
        """The listener that writes one way; its updates are for `Frame.outputs` and `TakeawayLayout.written`."""

        def run(session, name, overwrite, values, runs, measured, request: gr.Request) -> Iterator[tuple]:
            def work(session: Session, report: Reporter) -> tuple[Session, takeaway.Taken]:
                taken = takeaway.take(
                    session,
                    way,
                    name,
                    folder=self._folder,
                    overwrite=bool(overwrite),
                    options=takeaway.options_of(session, way, values=values, runs=runs, rows=measured.rows),
                    progress=report,
                )
                return session, taken

            for update in self._actions.watch(request, session, work, step=None):
                if isinstance(update, Result):
                    session, taken = update.value
                    yield (*bar_updates(session), taken.words, *self._downloads(taken))
                elif isinstance(update, tuple):
                    yield (*update, *unchanged(self._layout.written))

        return run

    def open_recipe(self, session, file, carry_over, request: gr.Request) -> Iterator[tuple]:
        """The plan of a recipe file; the updates are for `Frame.outputs` and the notes."""
        if not file:
            yield (*unchanged(self._frame.outputs), "")
            return
        try:
            path = uploaded_file(file, Path(get_upload_folder()))
        except UserError as problem:
            raise error_message(problem) from problem
        notes: list[str] = []

        def work(now: Session, report: Reporter) -> Session:
            text = Path(path).read_bytes()
            after, said = open_recipe(now, text, carry_over=bool(carry_over), progress=report)
            notes.extend(said)
            return after

        for update in self._actions.watch(request, session, work, "Open a recipe"):
            if isinstance(update, Result):
                yield (*session_updates(update.value), " ".join(notes) or "Opened.")
            elif isinstance(update, tuple):
                yield (*update, gr.skip())

    def show(self, session: Session | None, name: str, suggested: str) -> tuple:
        """The suggested name and updates for `TakeawayLayout.shown`."""
        if session is None or session.pruned is None or self._actions.is_early(session):
            return gr.skip(), f"<p>{NOTHING}</p>", gr.skip(), *("" for _ in self._layout.ways)
        new = takeaway.suggested_name(session)
        sizes = takeaway.sizes_of(session)
        words = escape(recipe_words(session))
        left = f"{formatting.count(session.report.remaining)} of {formatting.count(session.report.parameters)}"
        headline = f"<h2>{words}</h2><p>{escape(session.model.name)}: {left} parameters left.</p>"
        typed = name not in ("", suggested)
        return new, headline, gr.skip() if typed else new, *(_size(sizes, fields.way) for fields in self._layout.ways)

    def _downloads(self, taken: takeaway.Taken) -> list:
        return [
            gr.DownloadButton(value=str(taken.download) if taken.download else None, interactive=bool(taken.download))
            if fields.way is taken.way
            else gr.skip()
            for fields in self._layout.ways
        ]


def _size(sizes: dict[str, int], way: takeaway.Way) -> str:
    """What a way would weigh, against the dense transformer."""
    if way.name not in sizes:
        return ""
    return f"<b>{formatting.nbytes(sizes[way.name])}</b>"
