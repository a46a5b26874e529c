"""Interactive visual analysis of post-training pruning for Diffusion Transformers; the core, for notebooks."""

from __future__ import annotations

from dit_prune_viz.calibration import Calibration, calibrate
from dit_prune_viz.clustering import cluster, plane
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.generation import Request, generate, stream
from dit_prune_viz.masks import build_masks, pruned, summarize
from dit_prune_viz.metrics import load_clip, psnr, ssim
from dit_prune_viz.pipelines import Model, load_model
from dit_prune_viz.plan import PruningPlan, make_plan
from dit_prune_viz.saliency import STW, Magnitude, Wanda

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
