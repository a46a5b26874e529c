"""A plan from a method, a granularity and one sparsity for all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.granularity import cag_threshold, choose, heterogeneity, resolve_mode
from dit_prune_viz.granularity.counts import check_sparsity
from dit_prune_viz.plan.plan import LayerPlan, PruningPlan
from dit_prune_viz.saliency import Saliency, find_method, layer_scores


class Named(Protocol):
    """A layer, as far as a plan is concerned."""

    @property
    def name(self) -> str: ...


def make_plan(
    layers: Sequence[Named],
    weight: Callable[[str], Tensor],
    norm: Callable[[str], Tensor],
    *,
    method: str | Saliency = "dit-pruning",
    granularity: str = "auto",
    sparsity: float = 0.5,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> PruningPlan:
    """Plan all `layers` at one sparsity; G_out of every layer is measured with the method's own saliencies.

    `weight(name)` gives a layer's weights (d_out, d_in), `norm(name)` its input norms ‖X_j‖₂ (d_in,). granularity is
    one of MODES; `threshold` replaces CAG's own (arXiv 2607.00927). Weights are only read, one layer at a time.
    UserError for an unknown method or granularity, a sparsity outside 0–1, a negative threshold, NaN or infinite
    weights or norms, no layers.
    """
    saliency, sparsity = find_method(method), check_sparsity(sparsity)
    resolved = resolve_mode(granularity, saliency.name)
    if not layers:
        raise UserError("The model has no layers to prune; load a diffusion transformer.")
    g_out = {}
    for done, layer in enumerate(layers):
        if progress:
            progress(done, len(layers), f"Scoring {layer.name}")
        g_out[layer.name] = heterogeneity(layer_scores(saliency, layer.name, weight(layer.name), norm(layer.name)))
    if progress:
        progress(len(layers), len(layers), "Plan is ready")
    if resolved != "cag":
        threshold = None
    elif threshold is None:
        threshold = cag_threshold(g_out.values())
    granularities = choose(resolved, g_out, saliency.name, threshold)
    plans = {name: LayerPlan(name, granularities[name], value, sparsity) for name, value in g_out.items()}
    return PruningPlan(saliency, granularity, sparsity, threshold, plans)
