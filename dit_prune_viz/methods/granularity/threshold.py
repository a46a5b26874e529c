"""The G_out above which a layer is pruned row by row, found in the model's own values."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from dit_prune_viz.errors import UserError


def cag_threshold(g_out: Iterable[float]) -> float:
    """The geometric mid-point between the two groups into which G_out values fall on the log axis.

    The split is the one with the least spread inside both groups: Otsu's, which is exact k-means with k = 2. The paper
    (arXiv 2607.00927) prints no threshold.

    Args:
        g_out: heterogeneities of the layers, no unit; values of 0 always lie below the threshold.

    Returns:
        The threshold; infinity where fewer than two distinct positive values leave nothing to split.

    Raises:
        UserError: a NaN, infinite or negative value.
    """
    values = np.asarray(list(g_out), dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise UserError("G_out must be finite and not negative in every layer; calibrate the model again.")
    values = np.sort(values[values > 0])
    logs = np.log10(values)
    cuts = np.flatnonzero(np.diff(values) > 0) + 1  # sizes of the lower group; equal values stay together
    if not cuts.size:
        return math.inf
    # The least spread inside the groups is the greatest between them: w₁·w₂·(μ₂ − μ₁)².
    below = np.cumsum(logs)[cuts - 1]
    low_mean, high_mean = below / cuts, (logs.sum() - below) / (len(logs) - cuts)
    between = cuts * (len(logs) - cuts) * (high_mean - low_mean) ** 2
    cut = cuts[np.argmax(between)]
    low, high = values[cut - 1], values[cut]
    middle = math.sqrt(low) * math.sqrt(high)
    return float(middle if low <= middle < high else low)
