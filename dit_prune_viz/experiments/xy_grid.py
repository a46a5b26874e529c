"""A grid of pictures over two settings: what is drawn in each cell, and drawing it cell by cell from the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from PIL.Image import Image

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress, UserError
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
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.pruned_layers import PrunedLayers
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.metrics.pictures import ssim
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised
from dit_prune_viz.pruning.make_plan import check_layers
from dit_prune_viz.pruning.named_recipes import DENSE, find_recipe
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

MOST_CELLS = 100

Maker = Callable[[Recipe, Progress | None], PrunedModel]
"""Prunes the model by a recipe."""


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


@dataclass(frozen=True, eq=False)
class DrawnCell:
    """A cell's picture with its scores.

    Attributes:
        cell: what was asked for.
        image: the picture, or a strip of a clip's frames.
        clip: its CLIP score with its prompt; None without a CLIP.
        dense_clip: that of the dense model's picture of the same request.
        ssim: to that picture, at most 1; None where the pictures are too small for it.
    """

    cell: Cell
    image: Image
    clip: float | None
    dense_clip: float | None
    ssim: float | None


@dataclass(frozen=True, eq=False)
class Grid:
    """A plan and the cells that are drawn by now, under which CLIP; "" for none."""

    plan: GridPlan
    drawn: tuple[DrawnCell, ...] = ()
    clip_name: str = ""


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
    cells = []
    for row, row_value in enumerate(rows.values):
        for column, column_value in enumerate(columns.values):
            values = {columns.kind: column_value, rows.kind: row_value}
            block = _checked_block(model, values.get(BLOCK))
            cells.append(Cell(row, column, _recipe(model, values, start), block, _request(model, values, start)))
    plan = GridPlan(Heads(columns.kind, columns.labels), Heads(rows.kind, rows.labels), tuple(cells))
    for recipe in plan.recipes:
        if recipe is not None:
            check_layers(recipe, model.layers)
    return plan


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


def by_recipe(model: Model, disk: DiskCache | None = None) -> Maker:
    """Prunes a model by one recipe after another; those with the same calibration share it while the model's cache
    holds it."""

    def make(recipe: Recipe, progress: Progress | None) -> PrunedModel:
        statistics = Statistics(model, calibrate_for(model, recipe, progress, disk), disk=disk)
        return prune(model, recipe, statistics=statistics, progress=progress)

    return make


def draw_grid(
    model: Model,
    plan: GridPlan,
    make: Maker,
    *,
    clip: ClipScorer | None = None,
    progress: Progress | None = None,
    emit: Callable[[DrawnCell], None] | None = None,
) -> Grid:
    """Draw all cells of a grid, each as it would be drawn alone.

    Where the seed is no axis, all cells start from the same noise. The dense picture of a request is drawn once. Cells
    come recipe by recipe, so that each is made once, and freed before the next.

    Args:
        model: its weights are only read; its lock is held while a picture is drawn.
        plan: what is drawn.
        make: prunes the model.
        clip: scores the pictures; None leaves CLIP scores out.
        progress: called after every denoising step, counted in steps of all pictures; may raise `Cancelled`.
        emit: gets every cell as soon as it is drawn.

    Raises:
        UserError: as in `prune`, or too little memory.
    """
    return _Drawing(model, plan, clip, progress, emit).run(make)


class _Drawing:
    """A grid on its way."""

    def __init__(self, model: Model, plan: GridPlan, clip, progress: Progress | None, emit) -> None:
        self._model, self._plan, self._clip, self._emit = model, plan, clip, emit
        self._progress = progress
        self._dense: dict[Request, tuple[Image, float | None]] = {}
        pruned = [cell for cell in plan.cells if not _is_dense(cell)]
        requests = {cell.request for cell in plan.cells}
        self._total = sum(cell.request.steps for cell in pruned) + sum(request.steps for request in requests)
        self._done = 0
        self._drawn: list[DrawnCell] = []

    def run(self, make: Maker) -> Grid:
        for recipe in self._plan.recipes:
            layers: Mapping[str, PrunedLayer] = {}  # those of the recipe before go first
            if recipe is not None:
                layers = make(recipe, self._aside).layers
            for cell in self._plan.cells:
                if cell.recipe == recipe:
                    self._cell(cell, layers)
        return Grid(self._plan, tuple(self._drawn), self._clip.name if self._clip else "")

    def _cell(self, cell: Cell, layers: Mapping[str, PrunedLayer]) -> None:
        number = f"picture {len(self._drawn) + 1} of {len(self._plan.cells)}"
        if cell.request not in self._dense:
            image = self._draw(cell.request, {}, f"Dense picture for {number}")
            self._dense[cell.request] = image, self._score(image, cell.request)
        dense, dense_clip = self._dense[cell.request]
        image, score = dense, dense_clip
        if not _is_dense(cell):
            layers = layers if cell.block is None else without_block(self._model, layers, cell.block)
            image = self._draw(cell.request, layers, f"{number[:1].upper()}{number[1:]}")
            score = self._score(image, cell.request)
        drawn = DrawnCell(cell, image, score, dense_clip, _ssim(dense, image))
        self._drawn.append(drawn)
        if self._emit:
            self._emit(drawn)

    def _draw(self, request: Request, layers: Mapping[str, PrunedLayer], what: str) -> Image:
        before = self._done

        def step(done: Denoised) -> None:
            # Some schedulers call the model more often than they have steps.
            self._done = before + round(request.steps * done.index / done.steps)
            if self._progress:
                self._progress(self._done, self._total, f"{what}: step {done.index} of {done.steps}")

        with self._model.lock.hold(self._aside if self._progress else None):
            image = draw_batch(self._model, [request], layers=layers, on_step=step)[0].image
        self._done = before + request.steps
        return image

    def _aside(self, done: int, total: int, what: str) -> None:
        """Work between the pictures: the count stands still, but it can be cancelled."""
        if self._progress:
            self._progress(self._done, self._total, f"{what} ({done} of {total})" if total > 1 else what)

    def _score(self, image: Image, request: Request) -> float | None:
        if self._clip is None:
            return None
        score = float(clip_scores(self._clip, self._model, [image], [request])[0])
        return mean_clip([score]) if math.isfinite(score) else None


def _is_dense(cell: Cell) -> bool:
    return cell.recipe is None and cell.block is None


def _ssim(dense: Image, image: Image) -> float | None:
    try:
        return ssim(dense, image)
    except UserError:  # smaller than its window
        return None


def without_block(model: Model, layers: Mapping[str, PrunedLayer], block: int) -> Mapping[str, PrunedLayer]:
    """Pruned layers, none of them for the dense model, with all prunable weights of one block gone; biases stay."""
    gone = {}
    for layer in model.layers:
        if layer.block == block:
            bits = torch.zeros(-(-layer.weights // 8), dtype=torch.uint8)
            gone[layer.name] = PrunedLayer(PackedMask(bits, layer.shape))
    return PrunedLayers(layers).changed(gone)
