"""The Compare page's grid without the page: from a session and two fields to a plan, pictures, a table and a PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from dit_prune_viz.app.session.contact_sheet import thumbnail
from dit_prune_viz.app.session.drawing_inputs import taken
from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.recipe_io import with_clusters
from dit_prune_viz.app.session.scratch import Scratch
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.experiments.xy_axes import BLOCK, EXAMPLES, KINDS, PRESENT, PROMPT, RECIPE, Axis
from dit_prune_viz.experiments.xy_grid import DrawnCell, Grid, by_recipe, draw_grid
from dit_prune_viz.experiments.xy_grid_file import scores_in_words, write_grid
from dit_prune_viz.experiments.xy_plan import GridPlan, Start, plan_grid, starts_dense, usual_level
from dit_prune_viz.generation.request import Request
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT
from dit_prune_viz.pipelines.layers import OUTSIDE
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

_LARGE, _SMALL, _FEW = 160, 96, 36
"""Pixels of a thumbnail in a grid of few pictures, and of more."""
_BLOCKS = 9
"""The most blocks that are suggested."""


@dataclass(frozen=True)
class Asked:
    """What a person asked for: (kind, values as text) of both axes, and the fields of the page for all else.

    prompts: a line each; the first is drawn unless they are an axis without values of its own.
    """

    columns: tuple[str, str]
    rows: tuple[str, str]
    prompts: str
    seed: float
    steps: float
    frames: int | None = 1
    picture: bytes | None = None


def suggested_values(session: Session | None, kind: str) -> str:
    """Values of an axis to begin with; none for prompts, which the page has already."""
    if kind == PROMPT:
        return ""
    if kind == RECIPE:
        return f"dense, magnitude, {PRESENT}"
    if kind == BLOCK and session is not None and session.model is not None:
        blocks = sorted({layer.block for layer in session.model.layers if layer.stack != OUTSIDE})
        shown = blocks[:: -(-len(blocks) // _BLOCKS)]
        every = len(shown) == len(blocks)
        return f"none, {blocks[0]}-{blocks[-1]}" if every else ", ".join(["none", *map(str, shown)])
    return EXAMPLES[kind]


def plan_of(session: Session, asked: Asked) -> tuple[GridPlan, Recipe | None]:
    """The cells, and the recipe among them that stands for the session's own plan; no model runs.

    Raises:
        UserError: no model, and as in `plan_grid`.
    """
    model = session.need_model()
    lines = [line.strip() for line in (asked.prompts or "").splitlines() if line.strip()]
    columns, rows = (_axis(kind, text, lines) for kind, text in (asked.columns, asked.rows))
    frames, picture = taken(model, asked.frames, asked.picture)
    request = Request(lines[0] if lines else "", asked.seed, asked.steps, frames=frames, picture=picture)
    present = None
    if session.pruned is not None and not starts_dense(columns, rows):
        present = with_clusters(session).plan.as_recipe()
    elif not starts_dense(columns, rows) and RECIPE not in (columns.kind, rows.kind):
        session.need_plan()
    start = Start(request, present, usual_level(present or session.recipe), session.recipe.calibration)
    return plan_grid(model, columns, rows, start), present


def _axis(kind: str, text: str, prompts: Sequence[str]) -> Axis:
    if kind not in KINDS:
        raise UserError(f"An axis of the grid is one of {', '.join(KINDS)}; choose it from the list.")
    return Axis.of(kind, "\n".join(prompts) if kind == PROMPT and not (text or "").strip() else text)


def draw(
    session: Session,
    plan: GridPlan,
    present: Recipe | None,
    *,
    emit: Callable[[DrawnCell], None] | None = None,
    progress: Progress | None = None,
) -> Grid:
    """Draw a plan.

    Args:
        session: the one that it was made with.
        plan: as `plan_of` gave it.
        present: in the same way; what the session has of it already is not made again.
        emit: gets every cell as soon as it is drawn.
        progress: may raise `Cancelled`.

    Raises:
        UserError: as in `draw_grid`.
    """
    model = session.need_model()
    otherwise = by_recipe(model, session.store.disk)

    def make(recipe: Recipe, progress: Progress | None) -> PrunedModel:
        if present is not None and recipe == present:
            return finish(session, progress)
        if session.statistics is None or recipe.calibration != session.recipe.calibration:
            return otherwise(recipe, progress)
        return prune(model, recipe, statistics=session.statistics, progress=progress)

    return draw_grid(model, plan, make, clip=session.store.clip(), progress=progress, emit=emit)


def write_png(session: Session, grid: Grid) -> str:
    """The path of the grid as a PNG, which is there as long as the grid is. UserError where nothing is drawn yet."""
    model = session.need_model()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip("-._")
    path = Scratch().stays_with(grid).path / f"grid-{name or 'model'}.png"
    write_grid(grid, model, path)
    return str(path)


def grid_table(grid: Grid) -> str:
    """What is drawn by now as HTML: a thumbnail with its scores in each place, and dots where one is to come."""
    plan = grid.plan
    side = _LARGE if len(plan.cells) <= _FEW else _SMALL
    at = {(drawn.cell.row, drawn.cell.column): drawn for drawn in grid.drawn}
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in plan.columns.labels)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(_picture(at.get((row, column)), plan, side) for column in range(len(plan.columns.labels)))
        + "</tr>"
        for row, name in enumerate(plan.rows.labels)
    )
    clip = f"CLIP: {escape(grid.clip_name)}, {CLIP_UNIT}, with the difference to dense. " if grid.clip_name else ""
    caption = f"{clip}SSIM is to the dense picture of the same request."
    state = f'<p class="note" role="status">{len(grid.drawn)} of {len(plan.cells)} pictures</p>'
    return (
        f'{state}<div class="xy-scroll" tabindex="0" role="region" aria-label="Grid of pictures">'
        f'<table class="xy-grid"><caption>{caption}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _picture(drawn: DrawnCell | None, plan: GridPlan, side: int) -> str:
    if drawn is None:
        return '<td class="waiting">…</td>'
    labels = plan.rows.labels[drawn.cell.row], plan.columns.labels[drawn.cell.column]
    spoken = escape(f"Picture: {labels[0]}, {labels[1]}")
    words = "".join(f"<span>{escape(part)}</span>" for part in scores_in_words(drawn))
    return f'<td><img src="{thumbnail([drawn.image], side)}" alt="{spoken}">{words}</td>'
