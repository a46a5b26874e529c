"""Layer or row, for every layer of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.granularity.threshold import cag_threshold

GRANULARITIES = ("layer", "row")
"""All weights of a layer are ranked together, or those of each output row among themselves."""

MODES = ("auto", "layer", "row", "cag")
"""How the granularity is chosen: as the method's paper does it, one of the two for all, or from G_out."""

_OF_METHOD = {"magnitude": "layer", "wanda": "row"}


def resolve_mode(mode: str, method: str) -> str:
    """ "layer", "row" or "cag" for the mode a person picked; "auto" is what the method's own paper does.

    Magnitude ranks per layer, Wanda per row, DiT-Pruning and every other STW by CAG. UserError for an unknown mode.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise UserError(f"There is no granularity {brief(mode)}; choose one of {', '.join(MODES)}.")
    return _OF_METHOD.get(method, "cag") if mode == "auto" else mode


def choose(mode: str, g_out: Mapping[str, float], method: str, threshold: float | None = None) -> dict[str, str]:
    """The granularity ("layer" or "row") of every layer in `g_out` (layer → G_out), in its order.

    CAG ranks row by row where G_out lies above `threshold`, which is `cag_threshold` of all values unless given
    (arXiv 2607.00927, CAG). UserError for an unknown mode or a threshold that is negative or NaN.
    """
    mode = resolve_mode(mode, method)
    if mode != "cag":
        return dict.fromkeys(g_out, mode)
    if threshold is None:
        threshold = cag_threshold(g_out.values())
    if math.isnan(threshold) or threshold < 0:
        raise UserError(f"The G_out threshold must be 0 or more, but it is {threshold}.")
    return {name: "row" if value > threshold else "layer" for name, value in g_out.items()}
