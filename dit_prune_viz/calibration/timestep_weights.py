"""Weights of the timestep bins: which part of the trajectory a statistic listens to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError

SCHEMES = ("uniform", "early", "late", "log")
"""All timesteps alike; the noisy half only; the clean half only; falling logarithmically from 1.2 to 0.8."""

_FIRST, _LAST = 1.2, 0.8


def timestep_weights(scheme: str | Sequence[float], edges: Sequence[float]) -> tuple[float, ...]:
    """One weight per timestep bin, for `Calibration.norm`, `Calibration.mean_square` and `collect_hessians`.

    "early" (arXiv 2607.00927, Fig. 6) takes the bins whose centre lies in the noisy half (timestep ≥ ½) and "late" the
    others. "log" is OBS-Diff's (arXiv 2510.06751): the k-th of B bins, counted from the noisiest, weighs
    1.2 − 0.4·ln k / ln B, so the first weighs 1.2 and the last 0.8. Numbers given by hand, also as one text with
    commas between them, are checked and returned.

    Args:
        scheme: one of SCHEMES, or (bins,) numbers of at least 0, not all of them 0, from the clean end (timestep 0) on.
        edges: of the bins over 0..1, as `Calibration.edges` has them; the last bin is the noisiest.

    Raises:
        UserError: an unknown scheme, numbers that do not fit, a scheme that leaves no bin.
    """
    bins = len(edges) - 1
    if isinstance(scheme, str) and "," in scheme:
        scheme = scheme.removesuffix(",").split(",")
    if not isinstance(scheme, str):
        return checked_weights(scheme, bins)
    if scheme == "uniform":
        return (1.0,) * bins
    if scheme in ("early", "late"):
        early = [(low + high) / 2 >= 0.5 for low, high in pairwise(edges)]
        if all(early) or not any(early):
            raise UserError(f"With {bins} timestep bin there is no {scheme} half; calibrate with at least 2 bins.")
        return tuple(float(value == (scheme == "early")) for value in early)
    if scheme == "log":
        fall = (_FIRST - _LAST) / math.log(max(bins, 2))
        return tuple(_FIRST - fall * math.log(k) for k in range(bins, 0, -1))
    raise UserError(f"There is no timestep weighting {brief(scheme)}; choose {', '.join(SCHEMES)} or give numbers.")


def checked_weights(weights: Sequence[float], bins: int) -> tuple[float, ...]:
    """The weights of timestep bins as floats.

    Raises:
        UserError: they are not one finite number of at least 0 for each of `bins` bins, or all are 0.
    """
    problem = UserError(f"Timestep weights must be {bins} finite numbers of at least 0, one per bin, and not all 0.")
    try:
        values = tuple(float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise problem from None
    if len(values) != bins or not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise problem
    return values
