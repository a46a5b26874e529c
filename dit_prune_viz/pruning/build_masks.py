"""From a plan to masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.masks.select import keep_masks
from dit_prune_viz.methods.saliency.base import Saliency, layer_scores, needed_statistic

if TYPE_CHECKING:
    from dit_prune_viz.masks.layer_plan import LayerPlan
    from dit_prune_viz.pruning.plan import PruningPlan

_TOGETHER = 256 << 20
"""Bytes of scores that a GPU ranks at once: launching it takes as long for many layers as for one."""


def build_mask(layer_plan: LayerPlan, saliency: Saliency, weight: Tensor, statistic: Tensor) -> Tensor:
    """The mask (d_out, d_in) of one layer alone, from its weight (d_out, d_in) and the statistic of its inputs (d_in,)
    that the saliency ranks by: the norms ‖X_j‖₂, or the diagonal of H⁻¹.

    UserError for NaN or infinite saliencies and for clusters or a count made for a layer of another shape.
    """
    return mask_of_scores(layer_plan, layer_scores(saliency, layer_plan.name, weight, statistic))


def build_masks(
    plan: PruningPlan,
    weight: Callable[[str], Tensor],
    norm: Callable[[str], Tensor],
    *,
    layers: Iterable[str] | None = None,
    inverse_hessian: Callable[[str], Tensor] | None = None,
    progress: Progress | None = None,
) -> dict[str, PackedMask]:
    """The packed masks of the plan's layers, or of the named `layers` alone, in their order.

    `weight(name)` gives a layer's weights (d_out, d_in), `norm(name)` its input norms ‖X_j‖₂ (d_in,), and
    `inverse_hessian(name)` the diagonal of H⁻¹ (d_in,), which the OBS saliency ranks by. Weights are only read.
    UserError as in `build_mask`, for a layer the plan does not know, and for OBS without `inverse_hessian`.
    """
    statistic = needed_statistic(plan.saliency, norm, inverse_hessian)
    names = list(plan.layers if layers is None else layers)
    masks: dict[str, PackedMask] = {}
    waiting: dict[str, Tensor] = {}

    def rank() -> None:
        plans = [plan.layer(name) for name in waiting]
        kept = keep_masks(
            list(waiting.values()),
            sparsity=[layer.sparsity for layer in plans],
            granularity=[layer.granularity for layer in plans],
            count=[layer.count for layer in plans],
        )
        masks.update((name, pack(mask)) for name, mask in zip(waiting, kept, strict=True))
        waiting.clear()

    for done, name in enumerate(names):
        if progress:
            progress(done, len(names), f"Masking {name}")
        layer_plan = plan.layer(name)
        scores = layer_scores(plan.saliency, name, weight(name), statistic(name))
        if layer_plan.clusters is not None:
            masks[name] = pack(mask_of_scores(layer_plan, scores))
            continue
        waiting[name] = scores
        if not scores.is_cuda or sum(table.nbytes for table in waiting.values()) > _TOGETHER:
            rank()
    rank()
    if progress:
        progress(len(names), len(names), "Masks are ready")
    return {name: masks[name] for name in names}
