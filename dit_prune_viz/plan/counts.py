"""Parameter counts from shapes alone, so that a model on the meta device will do."""

from __future__ import annotations

from collections.abc import Mapping

from dit_prune_viz.granularity.counts import check_sparsity, removed


def remaining_parameters(
    shapes: Mapping[str, tuple[int, int]], granularity: Mapping[str, str], sparsity: float, total: int
) -> int:
    """How many of a model's `total` parameters are left when every layer is pruned to `sparsity`.

    `shapes` maps layers to (d_out, d_in), `granularity` layers to "layer" or "row" (as `choose` returns it). A layer
    loses floor(d_out·d_in·s) weights, or floor(d_in·s) in every row. UserError for a sparsity outside 0–1.
    """
    sparsity = check_sparsity(sparsity)
    for name, (d_out, d_in) in shapes.items():
        total -= d_out * removed(d_in, sparsity) if granularity[name] == "row" else removed(d_out * d_in, sparsity)
    return total
