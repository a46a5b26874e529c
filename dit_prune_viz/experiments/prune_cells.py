"""Prunes the model of one cell after another, and weighs what comes of it."""

from __future__ import annotations

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.experiments.draw_cells import CellDrawer
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.export.stored_bytes import dense_bytes, stored_bytes
from dit_prune_viz.pruning.named_recipes import DENSE, NamedRecipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

DENSE_RECIPE = NamedRecipe(DENSE, Recipe("magnitude"), "the model as it is")
"""Stands for the dense model among the cells."""


class CellPruner:
    """Prunes the model of one cell after another, the seeds of a cell once, and calibrates when that is needed.

    Args:
        drawer: of the cells; its turn and its progress are taken.
        calibration: made with the experiment's settings, if there is one already.
        cache: where the calibration is looked up and kept.
    """

    def __init__(self, drawer: CellDrawer, calibration: Calibration | None, cache: DiskCache | None) -> None:
        self._drawer, self._calibration, self._cache = drawer, calibration, cache
        self._last: tuple[NamedRecipe, Level] | None = None
        self._pruned: PrunedModel | None = None
        self._nbytes: int | None = None

    def of(self, recipe: NamedRecipe, level: Level) -> tuple[PrunedModel | None, int | None]:
        """The pruned model of a cell, None for the dense one, and its bytes as it would be stored.

        One process of several weighs; the others have None for the bytes.
        """
        if self._last != (recipe, level):
            with self._drawer.turn():
                self._pruned = self._nbytes = None  # its new weights first, or those of two recipes lie side by side
                if recipe is not DENSE_RECIPE:
                    self._pruned = self._prune(recipe, level)
                if self._drawer.processes.main:
                    dense = self._pruned is None
                    self._nbytes = (
                        dense_bytes(self._drawer.model) if dense else stored_bytes(self._pruned, self._drawer.aside)
                    )
            self._last = recipe, level
        return self._pruned, self._nbytes

    def _prune(self, recipe: NamedRecipe, level: Level) -> PrunedModel:
        experiment, drawer = self._drawer.experiment, self._drawer
        self._calibration = self._calibration or calibrate(
            drawer.model,
            samples=experiment.samples,
            seed=experiment.calibration_seed,
            prompts=experiment.calibration_prompts,
            progress=drawer.aside,
            cache=self._cache,
        )
        statistics = Statistics(drawer.model, self._calibration, drawer.aside, self._cache)
        return prune(drawer.model, level.of(recipe.recipe), statistics=statistics, progress=drawer.aside)


def is_quick(recipe: NamedRecipe) -> bool:
    """Whether pruning takes seconds: neither a search nor an update that sees inputs follows the ranking."""
    updater = recipe.recipe.updater
    return not recipe.recipe.search and (updater is None or not updater.needs_inputs)
