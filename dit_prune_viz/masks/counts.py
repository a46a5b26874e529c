"""How many weights a group loses."""

from __future__ import annotations

import math
from numbers import Real

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError


def check_sparsity(sparsity: object) -> float:
    """A sparsity as a float.

    Raises:
        UserError: it is no number between 0 and 1.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise UserError(f"Sparsity must be a number between 0 and 1, but it is {brief(sparsity)}.")
    if not 0 <= sparsity <= 1:
        raise UserError(f"Sparsity must lie between 0 and 1, but it is {brief(sparsity)}.")
    return float(sparsity)


def removed(n: int, sparsity: float) -> int:
    """floor(n · sparsity): the number of weights that a group of `n` weights loses.

    A sparsity such as 0.3 is a little less than 3/10 in binary, so a product within rounding error below a whole number
    counts as that number: 10 weights at 0.3 lose 3.
    """
    slack = max(1e-9, n * 1e-15)
    return min(n, math.floor(n * sparsity + slack))


def at_least(n: int, sparsity: float) -> int:
    """ceil(n · sparsity): the fewest weights that a group of `n` loses to be at least that sparse.

    The same slack as in `removed`: 10 weights at 0.3 lose 3, not 4.
    """
    return max(0, math.ceil(n * sparsity - max(1e-9, n * 1e-15)))
