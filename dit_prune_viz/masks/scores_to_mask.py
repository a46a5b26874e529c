"""From the scores of one layer and its plan to its mask."""

from __future__ import annotations

from torch import Tensor

from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups


def mask_of_scores(layer_plan: LayerPlan, scores: Tensor) -> Tensor:
    """The mask (d_out, d_in) of one layer that prunes the smallest of any `scores` (d_out, d_in), in its plan's groups
    and with its counts. UserError as in `build_mask`."""
    return _mask(scores, layer_plan, layer_plan.clusters)


def _mask(scores: Tensor, layer_plan: LayerPlan, clusters: ClusterPlan | None) -> Tensor:
    granularity = layer_plan.granularity
    if clusters is None:
        return keep_mask(scores, sparsity=layer_plan.sparsity, granularity=granularity, count=layer_plan.count)
    base = _mask(scores, layer_plan, clusters.beneath) if None in clusters.sparsity else None
    return keep_mask_groups(scores, clusters.labels, clusters.sparsity, granularity, clusters.unit, base)
