"""Granularity: inside which groups of weights the saliencies are ranked, one choice per layer."""

from dit_prune_viz.granularity.choose import MODES, check_mode, choose, resolve_mode
from dit_prune_viz.granularity.groups import (
    GRANULARITIES,
    check_granularity,
    check_n_m,
    n_of_m,
    removed_in_layer,
)
from dit_prune_viz.granularity.heterogeneity import heterogeneity
from dit_prune_viz.granularity.threshold import cag_threshold

__all__ = [
    "GRANULARITIES",
    "MODES",
    "cag_threshold",
    "check_granularity",
    "check_mode",
    "check_n_m",
    "choose",
    "heterogeneity",
    "n_of_m",
    "removed_in_layer",
    "resolve_mode",
]
