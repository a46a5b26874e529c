"""What the Take away page does: write the pruned model in one way, open a recipe, and follow the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from dit_prune_viz import formatting
from dit_prune_viz.app.formatting import markdown
from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.takeaway.layout import TakeawayLayout
from dit_prune_viz.app.pages.updates import bar_updates, error_message, session_updates, unchanged
from dit_prune_viz.app.session import takeaway
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.recipe_io import open_recipe, recipe_in_words
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.scratch import Scratch
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.takeaway import Found, Taken
from dit_prune_viz.app.session.tradeoff import Measured, uploaded_file
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.recipe_file import read_text

NOTHING = "Prune the model first; then it can be taken away."
MASKS_WAIT = "Sizes are told once the masks of a model this large are made, with the first picture or file."


@dataclass(frozen=True)
class Sources:
    """What other pages have found: comparisons, the rows of the trade-off, and the Layer page's selection."""

    runs: gr.State
    measured: gr.State
    selection: Callable[[gr.Request], Selection]


class TakeawayListeners:
    """`folder` is where everything is written."""

    def __init__(self, frame: Frame, actions: Actions, layout: TakeawayLayout, sources: Sources, folder: Path) -> None:
        self._frame, self._actions, self._layout = frame, actions, layout
        self._sources, self._folder = sources, folder

    def write(self, way: str) -> Callable[..., Iterator[tuple]]:
        """The listener that writes one way; its updates are for `Frame.outputs` and `TakeawayLayout.written`."""

        def run(
            session, name: str, overwrite: bool, values: str, runs: Runs, measured: Measured, request: gr.Request
        ) -> Iterator[tuple]:
            found = Found(runs.runs, measured.rows, self._sources.selection(request))

            def work(session: Session, report: Reporter) -> tuple[Session, Taken, Scratch]:
                taken = takeaway.take(
                    session,
                    way,
                    name,
                    folder=self._folder,
                    overwrite=bool(overwrite),
                    values=values,
                    found=found,
                    progress=report,
                )
                scratch = Scratch()
                return session, replace(taken, download=scratch.lend(taken.download)), scratch

            for update in self._actions.watch(request, session, work, step=None):
                if isinstance(update, Result):
                    session, taken, _scratch = update.value  # held until gradio has its own copy
                    yield (*bar_updates(session), taken.words, *self._downloads(taken))
                elif isinstance(update, tuple):
                    yield (*update, *unchanged(self._layout.written))

        return run

    def open_recipe(self, session, file: str | None, carry_over: bool, request: gr.Request) -> Iterator[tuple]:
        """The plan of a recipe file; the updates are for `Frame.outputs` and the notes."""
        try:
            path = uploaded_file(file, Path(get_upload_folder()))
            if path is None:
                raise UserError("Choose a recipe's .json file first.")
            text = read_text(path)
        except UserError as problem:
            raise error_message(problem) from problem
        notes: list[str] = []

        def work(now: Session, report: Reporter) -> Session:
            after, said = open_recipe(now, text, carry_over=bool(carry_over), progress=report)
            notes.extend(said)
            return after

        for update in self._actions.watch(request, session, work, "Open a recipe"):
            if isinstance(update, Result):
                words = [f"Opened: {recipe_in_words(update.value)}.", *notes]
                yield (*session_updates(update.value), markdown(" ".join(words)))
            elif isinstance(update, tuple):
                yield (*update, gr.skip())

    def show(self, session: Session | None, name: str, suggested: str) -> tuple:
        """The suggested name and updates for `TakeawayLayout.shown`."""
        if session is None or session.pruned is None or self._actions.is_early(session):
            return gr.skip(), f"<p>{NOTHING}</p>", gr.skip(), *("" for _ in self._layout.ways)
        new, sizes, report = takeaway.suggested_name(session), takeaway.sizes_of(session), session.report
        left = f"{formatting.count(report.remaining)} of {formatting.count(report.parameters)} parameters left"
        more = "" if sizes else f" {MASKS_WAIT}"
        headline = (
            f"<h2>{escape(recipe_in_words(session))}</h2><p>{escape(session.model.name)}: {left}.{escape(more)}</p>"
        )
        shown = gr.skip() if name not in ("", suggested) else new
        return new, headline, shown, *(_size(sizes, fields.way.name) for fields in self._layout.ways)

    def _downloads(self, taken: Taken) -> list:
        file = str(taken.download) if taken.download else None
        return [
            gr.DownloadButton(value=file, interactive=file is not None) if fields.way is taken.way else gr.skip()
            for fields in self._layout.ways
        ]


def _size(sizes: dict[str, int], way: str) -> str:
    """What a way would weigh."""
    if way not in sizes:
        unknown = "depends on the pictures" if way == "report" else "nothing reads a single file of this family"
        return f'<span class="way-unknown">{unknown}</span>' if sizes else ""
    about = "≈ " if way == "packed" else ""
    return f"<b>{about}{formatting.size(sizes[way])}</b>"
