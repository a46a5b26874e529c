"""Features on one scale."""

from __future__ import annotations

import numpy as np


def standardise(features: np.ndarray) -> np.ndarray:
    """Every column with mean 0 and variance 1, float64; a constant column becomes 0. Shape (n, d) in and out."""
    features = np.asarray(features, dtype=np.float64)
    centred = features - features.mean(axis=0)
    spread = centred.std(axis=0)
    # A constant column may be left with rounding noise, which must not be blown up to variance 1.
    constant = spread <= 1e-9 * np.maximum(1.0, np.abs(features).max(axis=0))
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
