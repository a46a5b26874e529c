"""Run the pipeline and keep ‖X_j‖² of every prunable layer per timestep bin: running sums, no activations."""

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.run import calibrate

__all__ = ["Calibration", "calibrate"]
