"""The groups of weights that are ranked among themselves."""

from __future__ import annotations

import re

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity, removed

GRANULARITIES = ("layer", "row", "column")
"""All weights of a layer are ranked together, or those of each output row or input column among themselves.

Besides these there is N:M, written "2:4": of every M consecutive inputs of a row N weights stay.
"""

_N_M = re.compile(r"([1-9]\d{0,4}):([1-9]\d{0,4})")


def n_of_m(granularity: object) -> tuple[int, int] | None:
    """(N, M) of "N:M", such as (2, 4) for "2:4"; None for any other granularity.

    Raises:
        UserError: N is not smaller than M.
    """
    match = _N_M.fullmatch(granularity) if isinstance(granularity, str) else None
    if match is None:
        return None
    n, m = int(match[1]), int(match[2])
    if n >= m:
        raise UserError(f"{granularity} would keep every weight; in N:M, N must be smaller than M, as in 2:4.")
    return n, m


def check_granularity(granularity: str) -> str:
    """The granularity itself.

    Raises:
        UserError: it is none of GRANULARITIES and no N:M.
    """
    if isinstance(granularity, str) and (granularity in GRANULARITIES or n_of_m(granularity)):
        return granularity
    choices = ", ".join(GRANULARITIES)
    raise UserError(f"There is no granularity {brief(granularity)}; choose one of {choices}, or N:M such as 2:4.")


def check_n_m(granularity: str, d_in: int, layer: str = "") -> None:
    """Check that a granularity fits a layer, which only N:M can fail to do.

    Args:
        granularity: any.
        d_in: inputs of the layer.
        layer: its name, for the error.

    Raises:
        UserError: M does not divide the inputs.
    """
    pattern = n_of_m(granularity)
    if pattern and d_in % pattern[1]:
        raise UserError(
            f"{granularity} does not fit {f'layer {layer}' if layer else 'a layer'} with {d_in} inputs; "
            f"choose an M that divides them, or leave the layer out."
        )


def removed_in_layer(shape: tuple[int, int], granularity: str, sparsity: float) -> int:
    """How many weights a layer loses: floor(n·s) in each of its groups of n weights; under N:M, M − N of every M.

    Args:
        shape: (d_out, d_in).
        granularity: "layer", "row", "column" or N:M.
        sparsity: 0–1, of which N:M takes no notice.

    Raises:
        UserError: an unknown granularity, a sparsity outside 0–1, or an M that does not divide d_in.
    """
    (d_out, d_in), sparsity = shape, check_sparsity(sparsity)
    pattern = n_of_m(check_granularity(granularity))
    if pattern:
        check_n_m(granularity, d_in)
        return d_out * (d_in // pattern[1]) * (pattern[1] - pattern[0])
    if granularity == "layer":
        return removed(d_out * d_in, sparsity)
    return d_out * removed(d_in, sparsity) if granularity == "row" else d_in * removed(d_out, sparsity)
