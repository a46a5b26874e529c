"""Values as a browser sends them, checked before anything else sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from dit_prune_viz.errors import UserError

MAX_EDITS = 1000
FARTHEST = 1e9
"""No picture's axis reaches beyond this."""

_NEEDED = {"sparsity": "sparsity", "rename": "name", "look": "look", "lock": "locked", "merge": "other"}
"""Verb of the cluster table → the value that it needs."""


def read_range(value: object, axis: str) -> tuple[float, float]:
    """The ends of one axis of a box drawn in a picture, the lower first.

    Args:
        value: such as {"x": [0, 1], "y": [3, 2]}.
        axis: "x" or "y".

    Raises:
        UserError: anything else, or ends that are no finite numbers.
    """
    ends = value.get(axis) if isinstance(value, Mapping) else None
    good = isinstance(ends, list | tuple) and len(ends) == 2
    if not good or not all(isinstance(end, Real) and math.isfinite(end) for end in ends):
        raise UserError("The box could not be read; draw it again.")
    low, high = sorted(min(max(float(end), -FARTHEST), FARTHEST) for end in ends)
    return low, high


def read_whole(value: object) -> int | None:
    """A whole number, also one written as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_edits(value: object) -> list[dict]:
    """The edits of the cluster table: each names a layer, its clustering, a cluster, and brings what its verb needs.

    What the values mean is checked where the edits are made.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, list) or len(value) > MAX_EDITS or not all(map(_is_edit, value)):
        raise UserError("The change could not be read; reload the page and try again.")
    return value


def _is_edit(edit: object) -> bool:
    if not isinstance(edit, dict):
        return False
    verb = edit.get("verb", "sparsity")
    named = all(isinstance(edit.get(key), str) for key in ("layer", "clustering")) and isinstance(verb, str)
    return named and "cluster" in edit and _NEEDED.get(verb, "cluster") in edit
