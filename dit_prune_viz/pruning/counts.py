"""Parameter counts from shapes alone, so that a model on the meta device will do."""

from __future__ import annotations

from collections.abc import Mapping

from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.groups import removed_in_layer


def remaining_parameters(
    shapes: Mapping[str, tuple[int, int]], granularity: Mapping[str, str], sparsity: float, total: int
) -> int:
    """How many parameters of a model are left when every layer is pruned to `sparsity`.

    A layer loses floor(d_out·d_in·s) weights, floor(d_in·s) in every row, floor(d_out·s) in every column, or M − N of
    every M.

    Args:
        shapes: layer → (d_out, d_in).
        granularity: layer → "layer", "row", "column" or N:M.
        sparsity: 0–1.
        total: parameters of the dense model.

    Raises:
        UserError: a sparsity outside 0–1, or an M that does not divide a layer's inputs.
    """
    sparsity = check_sparsity(sparsity)
    return total - sum(removed_in_layer(shape, granularity[name], sparsity) for name, shape in shapes.items())
