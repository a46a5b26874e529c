"""Masks: which weights stay. A mask is a bool tensor of the weight's shape, True = kept."""

from dit_prune_viz.granularity.counts import check_sparsity, removed
from dit_prune_viz.masks.apply import pruned
from dit_prune_viz.masks.build import build_mask, build_masks, mask_of_scores
from dit_prune_viz.masks.cluster import update_cluster
from dit_prune_viz.masks.packed import PackedMask, pack
from dit_prune_viz.masks.report import LayerReport, PlanReport, report_layer, summarize
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups, keep_masks, n_m_mask

__all__ = [
    "LayerReport",
    "PackedMask",
    "PlanReport",
    "build_mask",
    "build_masks",
    "check_sparsity",
    "keep_mask",
    "keep_mask_groups",
    "keep_masks",
    "mask_of_scores",
    "n_m_mask",
    "pack",
    "pruned",
    "removed",
    "report_layer",
    "summarize",
    "update_cluster",
]
