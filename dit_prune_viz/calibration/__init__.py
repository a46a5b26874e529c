"""Run the pipeline and keep ‖X_j‖² of every prunable layer per timestep bin: running sums, no activations."""

from dit_prune_viz.calibration.convergence import Convergence, measure_convergence
from dit_prune_viz.calibration.hessian import Moments, collect_hessians, collect_moments
from dit_prune_viz.calibration.inputs import Inputs, held_out_inputs, record_inputs, run_call
from dit_prune_viz.calibration.lessons import Lessons, record_lessons
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.run import calibrate
from dit_prune_viz.calibration.weights import SCHEMES, timestep_weights

__all__ = [
    "SCHEMES",
    "Calibration",
    "Convergence",
    "Inputs",
    "Lessons",
    "Moments",
    "calibrate",
    "collect_hessians",
    "collect_moments",
    "held_out_inputs",
    "measure_convergence",
    "record_inputs",
    "record_lessons",
    "run_call",
    "timestep_weights",
]
