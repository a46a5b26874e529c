"""The Compare page's accordion "XY grid": two settings against each other, drawn cell by cell, as one PNG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.compare.layout import RequestFields
from dit_prune_viz.app.pages.updates import bar_updates
from dit_prune_viz.app.session import xy_grid
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.xy_grid import Asked
from dit_prune_viz.experiments.xy_axes import KINDS, RECIPE, SPARSITY
from dit_prune_viz.experiments.xy_grid import DrawnCell, Grid

NOTE = (
    "Any two settings against each other; all others are those at the top of this page. Values stand between commas: "
    "`0-3`, `30-70 by 20, 2:4`, `dense, magnitude, present`. Prompts are a line each, those above if none are written. "
    "`present` is the plan at hand. Blocks are dropped by pruning all their weights, of the dense model unless the "
    "other axis is recipe or sparsity. The PNG holds all that is needed to draw the grid again: "
    "`dit-prune-viz grid --repeat FILE.png --out again.png`."
)


@dataclass(frozen=True)
class AxisFields:
    """What changes along one side, and its values as text."""

    kind: gr.Dropdown
    values: gr.Textbox


@dataclass(frozen=True)
class GridFields:
    """The whole accordion."""

    columns: AxisFields
    rows: AxisFields
    draw: gr.Button
    grid: gr.HTML
    download: gr.DownloadButton

    @property
    def inputs(self) -> list:
        axes = self.columns, self.rows
        return [field for axis in axes for field in (axis.kind, axis.values)]

    @property
    def outputs(self) -> list:
        return [self.grid, self.download]


def build(frame: Frame, actions: Actions, request: RequestFields) -> None:
    """Lay the accordion out inside the current gradio context and wire it."""
    with gr.Accordion("XY grid", open=False, elem_id="xy-grid"):
        gr.Markdown(NOTE, elem_classes="note")
        with gr.Row(equal_height=True, elem_classes="tab-controls"):
            columns = _axis_fields("Columns", "columns", SPARSITY)
            rows = _axis_fields("Rows", "rows", RECIPE)
            button = gr.Button("Draw grid", variant="primary", scale=1, min_width=110, elem_id="xy-draw")
        grid = gr.HTML("", elem_id="xy-pictures", apply_default_css=False, padding=False)
        with gr.Row():
            download = gr.DownloadButton(
                "Download PNG", size="sm", interactive=False, scale=0, min_width=150, elem_id="xy-download"
            )
    fields = GridFields(columns, rows, button, grid, download)
    listener = _Listener(frame, actions)
    button.click(
        listener.draw,
        [frame.session, *fields.inputs, *request.inputs],
        [*frame.outputs, *fields.outputs],
        **INTERNAL,
    )
    for axis in (columns, rows):
        # A list sends its `input` once more when it is left, which would overwrite what was typed meanwhile.
        axis.kind.change(xy_grid.suggested_values, [frame.session, axis.kind], axis.values, **INTERNAL)


def _axis_fields(label: str, name: str, kind: str) -> AxisFields:
    chosen = gr.Dropdown(list(KINDS), value=kind, label=label, scale=1, min_width=140, elem_id=f"xy-{name}")
    values = gr.Textbox(
        xy_grid.suggested_values(None, kind),
        label=f"{label}: values",
        placeholder="the prompts above",
        lines=1,
        max_lines=6,
        scale=3,
        min_width=190,
        elem_id=f"xy-{name}-values",
    )
    return AxisFields(chosen, values)


class _Listener:
    def __init__(self, frame: Frame, actions: Actions) -> None:
        self._frame, self._actions = frame, actions

    def draw(
        self,
        session,
        columns: str,
        column_values: str,
        rows: str,
        row_values: str,
        prompts: str,
        seed,
        steps,
        frames,
        picture,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """The grid, which grows cell by cell. What is drawn of a grid that is stopped stays, and can be downloaded."""
        asked = Asked((columns, column_values), (rows, row_values), prompts, seed, steps, frames, picture)
        # What is drawn by now, and with which session.
        known: list[tuple[Session, Grid]] = []

        def work(session: Session, report: Reporter) -> tuple[Session, Grid]:
            plan, present = xy_grid.plan_of(session, asked)
            known.append((session, Grid(plan, (), session.store.clip_name)))
            report.emit(plan)
            return session, xy_grid.draw(session, plan, present, emit=report.emit, progress=report)

        bar = (gr.skip(),) * len(self._frame.outputs)
        try:
            for update in self._actions.watch(request, session, work):
                if isinstance(update, Result):
                    known.append(update.value)
                    yield (*bar_updates(update.value[0]), *_finished(*update.value))
                    return
                if isinstance(update, tuple):
                    yield (*update, gr.skip(), gr.skip())
                    continue
                if isinstance(update, DrawnCell):
                    session, grid = known[-1]
                    known[-1] = session, Grid(grid.plan, (*grid.drawn, update), grid.clip_name)
                yield (*bar, xy_grid.grid_table(known[-1][1]), gr.DownloadButton(interactive=False))
        except Exception:
            if known:
                yield (*bar, *_finished(*known[-1]))
            raise
        if known:  # cancelled halfway
            yield (*bar, *_finished(*known[-1]))


def _finished(session: Session, grid: Grid) -> tuple:
    """Updates for `GridFields.outputs` once nothing more is drawn."""
    path = xy_grid.write_png(session, grid) if grid.drawn else None
    return xy_grid.grid_table(grid), gr.DownloadButton(value=path, interactive=path is not None)
