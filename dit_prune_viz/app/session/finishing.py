"""What finishes a session's masks, searches and updates: made when a picture needs it, and kept with the model."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import replace

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.work_time import FINISH, WorkTime, finish_time, measuring
from dit_prune_viz.errors import Progress
from dit_prune_viz.pruning.prune import finish_layers, is_stored
from dit_prune_viz.pruning.pruned_model import PrunedModel


def finish(session: Session, progress: Progress | None = None) -> PrunedModel:
    """The session's pruned model with all its masks made, its searches and its update done.

    Layers whose masks have been finished before take no time, unless every layer depends on others, as it does with
    sequential recipes and with those that learn. Nothing is kept of work that is cancelled.

    Raises:
        UserError: no plan, and as in `finish_layers`.
    """
    plan, pruned = session.need_plan()[2], session.pruned
    pruned.make_masks(progress)
    if not session.recipe.finishes:
        return pruned
    cache, keys = session.model.cache, _keys(session)
    known = {layer: found for layer, key in keys.items() if (found := cache.find(key)) is not None}
    missing = {layer: mask for layer, mask in session.masks.items() if layer not in known}
    if missing:
        wanted = session.masks if _entangled(session) else missing
        if is_stored(plan, wanted, session.statistics):
            made = finish_layers(plan, wanted, session.statistics)
        else:
            share = sum(mask.weights for mask in wanted.values()) / sum(mask.weights for mask in session.masks.values())
            with measuring(session.store.times, session.statistics, session.recipe, FINISH, share):
                made = finish_layers(plan, wanted, session.statistics.reporting(progress))
        known |= made
        cache.put_all({keys[layer]: finished for layer, finished in known.items()})
    return replace(pruned, layers={layer: known[layer] for layer in session.masks})


def time_left(session: Session) -> WorkTime | None:
    """How long the next image waits for searches and update: None where it does not."""
    if session.pruned is None or not session.recipe.finishes or is_finished(session):
        return None
    made = len(session.pruned.layers.made) == len(session.masks)
    if made and is_stored(session.plan, session.masks, session.statistics):
        return WorkTime(0.0, True)
    return finish_time(session.store.times, session.statistics, session.recipe)


def is_finished(session: Session) -> bool:
    """Whether the next picture finds all layers finished."""
    if len(session.pruned.layers.made) < len(session.masks):
        return False
    cache = session.model.cache
    return all(cache.find(key) is not None for key in _keys(session).values())


def _keys(session: Session) -> dict[str, Hashable]:
    recipe = session.recipe
    methods = recipe.search, recipe.update, recipe.timestep, recipe.sequential
    basis = "finished", session.calibration.key, *methods, recipe.ignore
    if _entangled(session):
        whole = hashlib.sha256("".join(mask.digest for mask in session.masks.values()).encode()).hexdigest()
        return {layer: (*basis, layer, whole, _groups(session, layer)) for layer in session.masks}
    return {layer: (*basis, layer, mask.digest, _groups(session, layer)) for layer, mask in session.masks.items()}


def _entangled(session: Session) -> bool:
    """Whether what becomes of a layer depends on the masks of other layers."""
    return session.recipe.sequential or session.recipe.learns


def _groups(session: Session, layer: str) -> Hashable:
    """What decides, beside the mask, which weights of a layer a search may choose."""
    plan = session.plan.layer(layer)
    return (plan.granularity, plan.clusters) if session.recipe.search else None
