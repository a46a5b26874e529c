"""Granularity: inside which groups of weights the saliencies are ranked, one choice per layer."""

from dit_prune_viz.granularity.choose import GRANULARITIES, MODES, choose, resolve_mode
from dit_prune_viz.granularity.heterogeneity import heterogeneity
from dit_prune_viz.granularity.threshold import cag_threshold

__all__ = ["GRANULARITIES", "MODES", "cag_threshold", "choose", "heterogeneity", "resolve_mode"]
