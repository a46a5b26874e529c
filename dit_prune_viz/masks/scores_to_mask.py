"""From the scores of one layer and its plan to its mask."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from dit_prune_viz.masks.earlier_clusters import EarlierClusters
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups


def mask_of_scores(layer_plan: LayerPlan, scores: Tensor) -> Tensor:
    """The mask of one layer that prunes its smallest scores, in its plan's groups and with its counts.

    Args:
        layer_plan: what the layer loses.
        scores: (d_out, d_in), finite.

    Returns:
        (d_out, d_in) bool, True = kept.

    Raises:
        UserError: scores that are NaN or infinite, clusters or a count made for a layer of another shape.
    """
    clusters = layer_plan.clusters
    if clusters is None:
        return _without_clusters(scores, layer_plan)
    base = _beneath(scores, layer_plan, clusters.beneath) if None in clusters.sparsity else None
    return keep_mask_groups(scores, clusters.labels, clusters.sparsity, layer_plan.granularity, clusters.unit, base)


def mask_at(layer_plan: LayerPlan, scores: Tensor, sparsity: float) -> PackedMask:
    """The mask of one layer at a sparsity, 0–1, in its plan's groups, whatever the plan's counts and clusters say.

    Raises:
        UserError: as in `mask_of_scores`.
    """
    return pack(mask_of_scores(replace(layer_plan, sparsity=sparsity, clusters=None, count=None), scores))


def _without_clusters(scores: Tensor, plan: LayerPlan) -> Tensor:
    return keep_mask(scores, sparsity=plan.sparsity, granularity=plan.granularity, count=plan.count)


def _beneath(scores: Tensor, plan: LayerPlan, earlier: EarlierClusters | None) -> Tensor:
    mask = _without_clusters(scores, plan)
    if earlier is None:
        return mask
    shape = (scores.shape[0], scores.shape[1])
    for index, (unit, sparsity) in enumerate(zip(earlier.units, earlier.sparsity, strict=True)):
        inside = earlier.cluster(index, shape).astype("int16")
        mask = keep_mask_groups(scores, inside, (None, sparsity), plan.granularity, unit, mask)
    return mask
