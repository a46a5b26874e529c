"""What a layer's predicted damage does to the model's output, measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ErrorCurve:
    """What pruning a layer does to the model's output, as measured: its rising predicted damages, and the errors."""

    damages: tuple[float, ...]
    errors: tuple[float, ...]

    def scaled(self, factor: float) -> ErrorCurve:
        """The same curve with all errors so many times as large."""
        return ErrorCurve(self.damages, tuple(factor * error for error in self.errors))

    def at(self, damage: np.ndarray) -> np.ndarray:
        """The error at any damage, linear between the measured ones; beyond the last it goes on as before it."""
        slope = 0.0
        if len(self.damages) > 1 and self.damages[-1] > self.damages[-2]:
            slope = (self.errors[-1] - self.errors[-2]) / (self.damages[-1] - self.damages[-2])
        beyond = np.maximum(damage - self.damages[-1], 0.0)
        return np.interp(damage, self.damages, self.errors) + slope * beyond
