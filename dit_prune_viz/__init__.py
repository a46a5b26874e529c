"""Post-training pruning of Diffusion Transformers: load, calibrate, prune, generate, measure.

A name is imported from its file when it is first used: torch and diffusers take seconds, which `--help` and the app's
first page need not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit_prune_viz.calibration.calibrate import calibrate
    from dit_prune_viz.calibration.result import Calibration
    from dit_prune_viz.calibration.settings import CalibrationSettings
    from dit_prune_viz.calibration.statistics import Statistics
    from dit_prune_viz.errors import Cancelled, UserError
    from dit_prune_viz.experiments.prompts import PromptSet, read_prompts
    from dit_prune_viz.export.load_packed import load_packed
    from dit_prune_viz.export.pack import pack
    from dit_prune_viz.export.ways import export
    from dit_prune_viz.generation.request import Request
    from dit_prune_viz.generation.stream import generate
    from dit_prune_viz.methods.allocation.base import Allocation
    from dit_prune_viz.methods.granularity.base import Granularity
    from dit_prune_viz.methods.registry import register
    from dit_prune_viz.methods.saliency.base import Saliency
    from dit_prune_viz.methods.search.base import Search
    from dit_prune_viz.methods.update.base import Update
    from dit_prune_viz.metrics.clip import load_clip
    from dit_prune_viz.pipelines.model import Model, load_model
    from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
    from dit_prune_viz.pruning.prune import prune
    from dit_prune_viz.pruning.pruned_model import PrunedModel
    from dit_prune_viz.pruning.recipe import Recipe
    from dit_prune_viz.pruning.recipe_file import read_recipe, write_recipe

__version__ = "0.1.0"
__all__ = [
    "NAMED_RECIPES",
    "Allocation",
    "Calibration",
    "CalibrationSettings",
    "Cancelled",
    "Granularity",
    "Model",
    "PromptSet",
    "PrunedModel",
    "Recipe",
    "Request",
    "Saliency",
    "Search",
    "Statistics",
    "Update",
    "UserError",
    "calibrate",
    "export",
    "find_recipe",
    "generate",
    "load_clip",
    "load_model",
    "load_packed",
    "pack",
    "prune",
    "read_prompts",
    "read_recipe",
    "register",
    "write_recipe",
]

_HOMES = {
    "Allocation": "methods.allocation.base",
    "Calibration": "calibration.result",
    "CalibrationSettings": "calibration.settings",
    "Cancelled": "errors",
    "Granularity": "methods.granularity.base",
    "Model": "pipelines.model",
    "NAMED_RECIPES": "pruning.named_recipes",
    "PromptSet": "experiments.prompts",
    "PrunedModel": "pruning.pruned_model",
    "Recipe": "pruning.recipe",
    "Request": "generation.request",
    "Saliency": "methods.saliency.base",
    "Search": "methods.search.base",
    "Statistics": "calibration.statistics",
    "Update": "methods.update.base",
    "UserError": "errors",
    "calibrate": "calibration.calibrate",
    "export": "export.ways",
    "find_recipe": "pruning.named_recipes",
    "generate": "generation.stream",
    "load_clip": "metrics.clip",
    "load_model": "pipelines.model",
    "load_packed": "export.load_packed",
    "pack": "export.pack",
    "prune": "pruning.prune",
    "read_recipe": "pruning.recipe_file",
    "read_prompts": "experiments.prompts",
    "register": "methods.registry",
    "write_recipe": "pruning.recipe_file",
}
"""Name -> the file it is defined in."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    if name in globals():  # the package of that name, which can be called
        return globals()[name]
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
