"""Draw a grid of pictures over two settings, cell by cell from the same noise, and score each beside the dense one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL.Image import Image

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.xy_plan import Cell, GridPlan
from dit_prune_viz.generation.batch import Picture, draw_batch
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.pruned_layers import PrunedLayers
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.metrics.destroyed import destroyed
from dit_prune_viz.metrics.pictures import ssim_if_large
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

Maker = Callable[[Recipe, Progress | None], PrunedModel]
"""Prunes the model by a recipe."""


@dataclass(frozen=True, eq=False)
class DrawnCell:
    """A cell's picture with its scores.

    Attributes:
        cell: what was asked for.
        image: the picture, or a strip of a clip's frames.
        clip: its CLIP score with its prompt; None without a CLIP.
        dense_clip: that of the dense model's picture of the same request.
        ssim: to that picture, at most 1; None where the pictures are too small for it.
        destroyed: what has become of the picture, see `metrics.destroyed`; "" for a picture.
    """

    cell: Cell
    image: Image
    clip: float | None
    dense_clip: float | None
    ssim: float | None
    destroyed: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """A plan and the cells that are drawn by now, under which CLIP; "" for none."""

    plan: GridPlan
    drawn: tuple[DrawnCell, ...] = ()
    clip_name: str = ""


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
        self._dense: dict[Request, tuple[Picture, float | None]] = {}
        pruned = [cell for cell in plan.cells if not cell.is_dense]
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
        number = f"Picture {len(self._drawn) + 1} of {len(self._plan.cells)}"
        if cell.request not in self._dense:
            picture = self._draw(cell.request, {}, f"{number}, dense")
            self._dense[cell.request] = picture, self._score(picture.image, cell.request)
        dense, dense_clip = self._dense[cell.request]
        picture, score = dense, dense_clip
        if not cell.is_dense:
            layers = layers if cell.block is None else without_block(self._model, layers, cell.block)
            picture = self._draw(cell.request, layers, number)
            score = self._score(picture.image, cell.request)
        similar = ssim_if_large(dense.image, picture.image)
        what = destroyed(picture.image, picture.latents)
        drawn = DrawnCell(cell, picture.image, None if what else score, dense_clip, similar, what)
        self._drawn.append(drawn)
        if self._emit:
            self._emit(drawn)

    def _draw(self, request: Request, layers: Mapping[str, PrunedLayer], what: str) -> Picture:
        before = self._done

        def step(done: Denoised) -> None:
            # Some schedulers call the model more often than they have steps.
            self._done = before + round(request.steps * done.index / done.steps)
            if self._progress:
                self._progress(self._done, self._total, f"{what}: step {done.index} of {done.steps}")

        with self._model.lock.hold(self._aside if self._progress else None):
            picture = draw_batch(self._model, [request], layers=layers, on_step=step)[0]
        self._done = before + request.steps
        return picture

    def _aside(self, done: int, total: int, what: str) -> None:
        """Work between the pictures: the count stands still, but it can be cancelled."""
        if self._progress:
            self._progress(self._done, self._total, f"{what} ({done} of {total})" if total > 1 else what)

    def _score(self, image: Image, request: Request) -> float | None:
        if self._clip is None:
            return None
        score = float(clip_scores(self._clip, self._model, [image], [request])[0])
        return mean_clip([score]) if math.isfinite(score) else None


def without_block(model: Model, layers: Mapping[str, PrunedLayer], block: int) -> Mapping[str, PrunedLayer]:
    """Pruned layers, none of them for the dense model, with all prunable weights of one block gone; biases stay."""
    gone = {}
    for layer in model.layers:
        if layer.block == block:
            bits = torch.zeros(-(-layer.weights // 8), dtype=torch.uint8)
            gone[layer.name] = PrunedLayer(PackedMask(bits, layer.shape))
    return PrunedLayers(layers).changed(gone)
