"""The granularity of every layer of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.granularity.threshold import cag_threshold

MODES = ("auto", "layer", "row", "column", "cag")
"""How the granularity is chosen: as the method's paper does it, one for all layers, or from G_out. Or N:M for all."""

_OF_METHOD = {"magnitude": "layer", "wanda": "row", "ria": "row", "obs": "layer"}


def check_mode(mode: str) -> str:
    """`mode` itself. UserError if it is none of MODES and no N:M."""
    if isinstance(mode, str) and (mode in MODES or n_of_m(mode)):
        return mode
    raise UserError(f"There is no granularity {brief(mode)}; choose one of {', '.join(MODES)}, or N:M such as 2:4.")


def resolve_mode(mode: str, method: str) -> str:
    """ "layer", "row", "column", "cag" or N:M for the mode a person picked; "auto" is what the method's own paper does.

    Magnitude and OBS rank per layer, Wanda and RIA per row, DiT-Pruning and every other STW by CAG. UserError for an
    unknown mode.
    """
    mode = check_mode(mode)
    family = method.lower().split(" ")[0]  # a method with exponents of one's own is called such as "RIA a=0.7"
    return _OF_METHOD.get(family, "cag") if mode == "auto" else mode


def choose(mode: str, g_out: Mapping[str, float], method: str, threshold: float | None = None) -> dict[str, str]:
    """The granularity of every layer in `g_out` (layer → G_out), in its order: one for all, or by CAG "layer" or "row".

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
