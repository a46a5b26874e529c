"""Units: what one dot stands for. A row is an output channel, a column an input channel, a weight a single W_ij."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.float64 import float64_capable

UNITS = ("row", "column", "weight")
LAYER = "layer"
"""What is clustered where the units are layers of a model; the units above are parts of one layer."""


def check_unit(unit: str) -> str:
    """`unit` itself. UserError if it is none of UNITS."""
    if unit not in UNITS:
        raise UserError(f"There is no unit '{unit}'; choose one of {', '.join(UNITS)}.")
    return unit


def count_units(shape: tuple[int, int], unit: str) -> int:
    """How many units a layer of this shape (d_out, d_in) has; weights count row by row. UserError: unknown unit."""
    return {"row": shape[0], "column": shape[1], "weight": shape[0] * shape[1]}[check_unit(unit)]


def sum_units(table: Tensor, unit: str) -> np.ndarray:
    """The sum of `table` (d_out, d_in) over every unit, float64 (units,). UserError: unknown unit."""
    table = float64_capable(table).double()
    sums = {"row": lambda: table.sum(1), "column": lambda: table.sum(0), "weight": lambda: table.flatten()}
    return sums[check_unit(unit)]().cpu().numpy()


def weights_of(units: np.ndarray, shape: tuple[int, int], unit: str) -> Tensor:
    """(d_out, d_in): what is said of the `units` (units,), for every weight of theirs; of bools, the weights of the
    chosen units. UserError: unknown unit."""
    table = {"row": lambda: units[:, None], "column": lambda: units[None], "weight": lambda: units.reshape(shape)}
    return torch.from_numpy(np.broadcast_to(table[check_unit(unit)](), shape).copy())
