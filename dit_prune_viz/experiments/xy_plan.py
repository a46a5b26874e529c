"""What is drawn in each cell of a grid of pictures over two settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.levels import Level, level_of
from dit_prune_viz.experiments.xy_axes import (
    BLOCK,
    GUIDANCE,
    PRESENT,
    PROMPT,
    RECIPE,
    SEED,
    SPARSITY,
    STEPS,
    Axis,
    Value,
)
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.make_plan import check_layers
from dit_prune_viz.pruning.named_recipes import DENSE, find_recipe
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_words import title_of

MOST_CELLS = 100


@dataclass(frozen=True)
class Start:
    """What all cells have in common where no axis says otherwise.

    Attributes:
        request: prompt, seed, steps, size and so on.
        recipe: what the model is pruned by, "present" on an axis; None is the dense model.
        level: how much recipes that are called by a name prune; None leaves it to them.
        calibration: of recipes that are called by a name; None leaves it to them.
    """

    request: Request
    recipe: Recipe | None = None
    level: Level | None = None
    calibration: CalibrationSettings | None = None


@dataclass(frozen=True)
class Heads:
    """What the rows or the columns are called: the setting that changes, and a label for each."""

    kind: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One picture of a grid.

    Attributes:
        row: from 0, from the top.
        column: from 0, from the left.
        recipe: what the model is pruned by; None is the dense model.
        block: whose prunable weights are all pruned beside that; None drops no block.
        request: checked.
    """

    row: int
    column: int
    recipe: Recipe | None
    block: int | None
    request: Request

    @property
    def is_dense(self) -> bool:
        """Whether it is a picture of the dense model."""
        return self.recipe is None and self.block is None


@dataclass(frozen=True)
class GridPlan:
    """What is drawn where: all cells, row by row."""

    columns: Heads
    rows: Heads
    cells: tuple[Cell, ...]

    @property
    def recipes(self) -> tuple[Recipe | None, ...]:
        """Each recipe once, the dense model first, then in the order of the cells."""
        found: list[Recipe | None] = [None] if any(cell.recipe is None for cell in self.cells) else []
        for cell in self.cells:
            if cell.recipe not in found:
                found.append(cell.recipe)
        return tuple(found)


def starts_dense(columns: Axis, rows: Axis) -> bool:
    """Whether a grid is of the dense model unless somebody says otherwise: one of dropped blocks, where neither axis
    says how the model is pruned."""
    kinds = {columns.kind, rows.kind}
    return BLOCK in kinds and not kinds & {RECIPE, SPARSITY}


def plan_grid(model: Model, columns: Axis, rows: Axis, start: Start) -> GridPlan:
    """Expand two axes into cells.

    Args:
        model: that will draw.
        columns: what changes from left to right.
        rows: what changes from top to bottom; another setting.
        start: all other settings.

    Raises:
        UserError: the same setting twice, more than `MOST_CELLS`, a recipe, block, prompt or number that the model
            cannot be drawn with.
    """
    if columns.kind == rows.kind:
        raise UserError(f"Both axes of the grid are {columns.kind}; choose another one for the rows.")
    count = len(columns.values) * len(rows.values)
    if count > MOST_CELLS:
        raise UserError(f"The grid would have {count} pictures, but {MOST_CELLS} are the most; leave values out.")
    cells, recipes = [], {}  # a recipe's file may be large: it is read once for all cells that it draws
    for row, row_value in enumerate(rows.values):
        for column, column_value in enumerate(columns.values):
            values = {columns.kind: column_value, rows.kind: row_value}
            block = _checked_block(model, values.get(BLOCK))
            pruning = values.get(RECIPE), values.get(SPARSITY)
            if pruning not in recipes:
                recipes[pruning] = _recipe(model, values, start)
            cells.append(Cell(row, column, recipes[pruning], block, _request(model, values, start)))
    plan = GridPlan(_heads(columns, start), _heads(rows, start), tuple(cells))
    for recipe in plan.recipes:
        if recipe is not None:
            check_layers(recipe, model.layers)
    return plan


def _heads(axis: Axis, start: Start) -> Heads:
    labels = axis.labels
    if axis.kind == RECIPE and start.recipe is not None:
        named = f"{PRESENT}: {title_of(start.recipe)}"
        labels = tuple(named if value == PRESENT else label for value, label in zip(axis.values, labels, strict=True))
    return Heads(axis.kind, labels)


def _request(model: Model, values: Mapping[str, Value], start: Start) -> Request:
    names = {PROMPT: "prompt", SEED: "seed", STEPS: "steps", GUIDANCE: "guidance_scale"}
    own = {names[kind]: value for kind, value in values.items() if kind in names}
    return check_request(model, replace(start.request, **own))


def _checked_block(model: Model, block: int | None) -> int | None:
    known = sorted({layer.block for layer in model.layers})
    if block is not None and block not in known:
        raise UserError(f"This model has no block {block}; its blocks are {known[0]} to {known[-1]}.")
    return block


def _recipe(model: Model, values: Mapping[str, Value], start: Start) -> Recipe | None:
    """What a cell is pruned by. UserError for a name that is none, and a level that means nothing for a recipe."""
    name, level = values.get(RECIPE, PRESENT), values.get(SPARSITY)
    if name == DENSE:
        return None
    if name == PRESENT:
        if start.recipe is None and (RECIPE in values or level is not None):
            raise UserError("The grid has no recipe to prune by; name one, or prune the model first.")
        recipe = start.recipe
    else:
        recipe = find_recipe(name, model)
        if not name.endswith(".json"):
            level = start.level if level is None else level
            recipe = replace(recipe, calibration=start.calibration or recipe.calibration)
    if recipe is None or level is None:
        return recipe
    try:
        return level.of(recipe)
    except UserError as error:
        raise UserError(f"{name} at {level.label}: {error}") from error


def usual_level(recipe: Recipe | None) -> Level | None:
    """How much recipes that are called by a name prune beside this one: as much. None where it prunes nothing."""
    return level_of(recipe) if recipe is not None and recipe.method.prunes else None
