"""Post-training pruning of Diffusion Transformers: load, calibrate, prune, generate, measure."""

from __future__ import annotations

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.methods.search.base import Search
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

__version__ = "0.1.0"
__all__ = [
    "NAMED_RECIPES",
    "Allocation",
    "Calibration",
    "CalibrationSettings",
    "Cancelled",
    "Granularity",
    "Model",
    "PrunedModel",
    "Recipe",
    "Saliency",
    "Search",
    "Statistics",
    "Update",
    "UserError",
    "calibrate",
    "find_recipe",
    "load_model",
    "prune",
    "register",
]
