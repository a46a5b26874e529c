"""Saliency: how much a single weight matters, from the weight and a statistic of the input it multiplies."""

from dit_prune_viz.saliency.base import STATISTICS, Saliency, layer_scores, needed_statistic
from dit_prune_viz.saliency.find import METHODS, find_method
from dit_prune_viz.saliency.magnitude import Magnitude
from dit_prune_viz.saliency.obs import OBS
from dit_prune_viz.saliency.ria import RIA
from dit_prune_viz.saliency.stw import STW
from dit_prune_viz.saliency.wanda import Wanda

__all__ = [
    "METHODS",
    "OBS",
    "RIA",
    "STATISTICS",
    "STW",
    "Magnitude",
    "Saliency",
    "Wanda",
    "find_method",
    "layer_scores",
    "needed_statistic",
]
