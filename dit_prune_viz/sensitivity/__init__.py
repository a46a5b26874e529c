"""Measured sensitivity: what pruning one layer alone does to the transformer's output."""

from dit_prune_viz.sensitivity.measure import measure_sensitivity
from dit_prune_viz.sensitivity.result import Sensitivity

__all__ = ["Sensitivity", "measure_sensitivity"]
