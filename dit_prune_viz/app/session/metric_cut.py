"""Where a plan's metric cuts through a layer's weights, for metrics that are a product of |W| and ‖X‖."""

from __future__ import annotations

import torch

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.figures.unit_scatter import Cut


def metric_cut(session: Session, layer: str) -> Cut | None:
    """Where the plan's metric cuts the layer, in log10 of |W| and ‖X‖.

    None for metrics that are no product of both as drawn, and where nothing or everything is pruned.
    """
    plan, recipe = session.need_plan()[2], session.recipe
    if recipe.centred or recipe.timestep != "uniform":
        return None  # it is not ‖X‖ over all timesteps alike that ranks the weights
    if recipe.method.exponents is None:
        return None
    m, n = recipe.method.exponents
    keep, scores = session.masks[layer].unpack().cpu(), session.scores(layer).cpu()
    if keep.all() or not keep.any():
        return None
    layer_plan = plan.layer(layer)
    lowest = scores.masked_fill(~keep, torch.inf)
    if layer_plan.granularity == "layer" and layer_plan.clusters is None:
        cuts = lowest.amin()[None]
    else:
        cuts = lowest.amin(0 if layer_plan.granularity == "column" else 1)
    cuts = cuts[torch.isfinite(cuts) & (cuts > 0)].log10()
    return Cut(m, n, float(cuts.min()), float(cuts.max())) if len(cuts) else None
