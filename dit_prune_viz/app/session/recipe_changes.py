"""Verbs that prune by another recipe without losing what was set by hand, or by the same one without it."""

from __future__ import annotations

from dataclasses import replace

from dit_prune_viz.app.session.recipe_io import with_clusters
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer


def change_recipe(session: Session, recipe: Recipe, progress: Progress | None = None) -> Session:
    """Prune by another recipe. Layers set by hand keep their sparsities, and the others make up for them.

    N:M fixes every layer's sparsity, so that with it nothing stays by hand.

    Args:
        session: calibrated.
        recipe: without layers of its own.
        progress: may raise `Cancelled`.

    Raises:
        UserError: as in `Session.prune`, and where too little is left to make up for what was set by hand.
    """
    names = [] if session.pruned is None or n_of_m(recipe.resolved_granularity) else set_by_hand(session)
    if not names:
        return session.prune(recipe, progress)
    if len(names) == len(session.plan.layers):
        raise UserError(
            "Every layer is set by hand, so that none is left to make up for another sparsity; discard what was set by "
            "hand first, below the recipe."
        )
    plan, before = with_clusters(session).plan, session.recipe
    # The new recipe says how they are ranked.
    tuned = tuple(replace(TunedLayer.of(plan.layer(name)), granularity="") for name in names)
    if recipe.threshold is None and recipe.resolved_granularity == "cag" and recipe.scoring == before.scoring:
        recipe = replace(recipe, threshold=before.threshold)
    return session.prune(replace(recipe, tuned=tuned, rebalance=True), progress)


def discard_by_hand(session: Session, progress: Progress | None = None) -> Session:
    """The same recipe without anything set by hand; clusters stay. UserError without a plan."""
    session.need_plan()
    return session.prune(replace(session.recipe, rebalance=False), progress)


def set_by_hand(session: Session | None) -> list[str]:
    """The layers that a person has set, as a whole or by their clusters, in the model's order."""
    plan = session.plan if session else None
    return [name for name in plan.layers if name in plan.by_hand - plan.adjusted] if plan else []
