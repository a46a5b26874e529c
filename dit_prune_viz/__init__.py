"""Interactive visual analysis of post-training pruning for Diffusion Transformers; the core, for notebooks.

A name is imported from its file when it is first used: torch and diffusers take seconds, which `--help` and the app's
first page need not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit_prune_viz.calibration.calibrate import calibrate
    from dit_prune_viz.calibration.result import Calibration
    from dit_prune_viz.clustering.clusters import cluster
    from dit_prune_viz.clustering.plane import plane
    from dit_prune_viz.errors import Cancelled, UserError
    from dit_prune_viz.generation.request import Request
    from dit_prune_viz.generation.stream import generate, stream
    from dit_prune_viz.masks.running import pruned
    from dit_prune_viz.methods.saliency.magnitude import Magnitude
    from dit_prune_viz.methods.saliency.stw import STW
    from dit_prune_viz.methods.saliency.wanda import Wanda
    from dit_prune_viz.metrics.clip import load_clip
    from dit_prune_viz.metrics.pictures import psnr, ssim
    from dit_prune_viz.pipelines.model import Model, load_model
    from dit_prune_viz.pruning.build_masks import build_masks
    from dit_prune_viz.pruning.make_plan import make_plan
    from dit_prune_viz.pruning.plan import PruningPlan
    from dit_prune_viz.pruning.report import summarize

__version__ = "0.1.0"
__all__ = [
    "STW",
    "Calibration",
    "Cancelled",
    "Magnitude",
    "Model",
    "PruningPlan",
    "Request",
    "UserError",
    "Wanda",
    "build_masks",
    "calibrate",
    "cluster",
    "generate",
    "load_clip",
    "load_model",
    "make_plan",
    "plane",
    "pruned",
    "psnr",
    "ssim",
    "stream",
    "summarize",
]

_HOMES = {
    "Calibration": "calibration.result",
    "Cancelled": "errors",
    "Magnitude": "methods.saliency.magnitude",
    "Model": "pipelines.model",
    "PruningPlan": "pruning.plan",
    "Request": "generation.request",
    "STW": "methods.saliency.stw",
    "UserError": "errors",
    "Wanda": "methods.saliency.wanda",
    "build_masks": "pruning.build_masks",
    "calibrate": "calibration.calibrate",
    "cluster": "clustering.clusters",
    "generate": "generation.stream",
    "load_clip": "metrics.clip",
    "load_model": "pipelines.model",
    "make_plan": "pruning.make_plan",
    "plane": "clustering.plane",
    "pruned": "masks.running",
    "psnr": "metrics.pictures",
    "ssim": "metrics.pictures",
    "stream": "generation.stream",
    "summarize": "pruning.report",
}
"""Name -> the file it is defined in."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
