"""Sessions pruned by a recipe that a test names."""

from __future__ import annotations

from dataclasses import replace

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pruning.named_recipes import find_recipe


def pruned_by(
    session: Session, method: str, granularity: str = "auto", sparsity: float = 0.5, progress=None, **changes
) -> Session:
    """The session pruned by a named recipe or saliency, some of whose fields are changed."""
    recipe = find_recipe(method)
    if n_of_m(granularity):
        changes = {"allocation": "uniform", **changes}
    if granularity != "auto":
        changes["granularity"] = granularity
    changes.setdefault("calibration", session.recipe.calibration)
    return session.prune(replace(recipe, sparsity=sparsity, **changes), progress)
