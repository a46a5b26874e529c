"""From a plan to masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.masks.select import keep_masks
from dit_prune_viz.pruning.plan import PruningPlan

_TOGETHER = 256 << 20
"""Bytes of scores that a GPU ranks at once: launching it takes as long for many layers as for one."""


def build_masks(
    plan: PruningPlan,
    scores: Callable[[str], Tensor],
    *,
    layers: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, PackedMask]:
    """The packed masks of a plan.

    Args:
        plan: what every layer loses, and in which groups.
        scores: layer → scores (d_out, d_in) float32, only read.
        layers: which of the plan's layers; None is all of them.
        progress: called before every layer; may raise `Cancelled`.

    Returns:
        layer → mask, in the order asked for.

    Raises:
        UserError: a layer the plan does not know, clusters or a count made for a layer of another shape, scores that
            are NaN or infinite.
    """
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
        layer_plan, table = plan.layer(name), scores(name)
        if layer_plan.clusters is not None:
            masks[name] = pack(mask_of_scores(layer_plan, table))
            continue
        waiting[name] = table
        if not table.is_cuda or sum(one.nbytes for one in waiting.values()) > _TOGETHER:
            rank()
    rank()
    if progress:
        progress(len(names), len(names), "Masks are ready")
    return {name: masks[name] for name in names}
