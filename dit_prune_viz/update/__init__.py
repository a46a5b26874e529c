"""Weight update: move the weights that a mask keeps, so that the layer's output stays where it was."""

from dit_prune_viz.update.distil import MOST_STEPS, distil_masks
from dit_prune_viz.update.exchange import exchange, exchange_groups
from dit_prune_viz.update.least_squares import least_squares_update
from dit_prune_viz.update.model import LAYERWISE, TUNED, UPDATES, check_update, update_model
from dit_prune_viz.update.obs import obs_update
from dit_prune_viz.update.packages import package_layers, peak_bytes
from dit_prune_viz.update.solve import inverse_diagonal
from dit_prune_viz.update.tune import TUNING_STEPS, tune_weights
from dit_prune_viz.update.weights import UpdatedWeights

__all__ = [
    "LAYERWISE",
    "MOST_STEPS",
    "TUNED",
    "TUNING_STEPS",
    "UPDATES",
    "UpdatedWeights",
    "check_update",
    "distil_masks",
    "exchange",
    "exchange_groups",
    "inverse_diagonal",
    "least_squares_update",
    "obs_update",
    "package_layers",
    "peak_bytes",
    "tune_weights",
    "update_model",
]
