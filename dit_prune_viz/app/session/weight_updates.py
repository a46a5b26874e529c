"""What finishes a session's masks, a search for better ones and updated weights: made when a picture needs it and only
for layers whose mask has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import TYPE_CHECKING

from dit_prune_viz.app.session.ranking import supplies
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.pruned_layer import UpdatedWeights
from dit_prune_viz.pruning.prune import update_masked

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session


def update(session: Session, progress: Progress | None = None) -> dict[str, UpdatedWeights]:
    """Layer → updated weights for the session's masks, empty if its settings neither update nor search; inside
    `Workspace.turn`. A search has masks of its own, with the same counts in the same groups.

    Layers whose masks have been updated before take no time, unless every layer depends on others, as it does in a
    sequential update, in a distillation and in tuning. UserError as in `update_masked`; `progress` may raise Cancelled,
    nothing is kept then.
    """
    plan = session.need_plan()[2]
    if not session.settings.finishes:
        return {}
    shelf, keys = session.workspace.updates, _keys(session)
    known = shelf.find(keys)
    missing = {layer: mask for layer, mask in session.masks.items() if layer not in known}
    if missing:
        wanted = session.masks if _entangled(session) else missing
        made = update_masked(
            session.settings.candidate, supplies(session, progress), wanted, plan=plan, progress=progress
        )
        fresh = {layer: made.get(layer) for layer in wanted}
        shelf.put(keys, fresh)
        known |= fresh
    return {layer: known[layer] for layer in session.masks if known[layer] is not None}


def is_current(session: Session) -> bool:
    """Whether the next picture finds the update of all its masks made."""
    keys = _keys(session)
    return len(session.workspace.updates.find(keys)) == len(keys)


def _keys(session: Session) -> dict[str, Hashable]:
    settings = session.settings
    basis = session.model.number, session.calibration, settings.update, settings.timestep, settings.exchange
    basis += (settings.sequential, settings.distil)
    if _entangled(session):
        whole = hashlib.sha256("".join(mask.digest for mask in session.masks.values()).encode()).hexdigest()
        return {layer: (*basis, layer, whole, _groups(session, layer)) for layer in session.masks}
    return {layer: (*basis, layer, mask.digest, _groups(session, layer)) for layer, mask in session.masks.items()}


def _entangled(session: Session) -> bool:
    """Whether what becomes of a layer depends on the masks of other layers."""
    return session.settings.sequential or session.settings.candidate.learns


def _groups(session: Session, layer: str) -> Hashable:
    """What decides, beside the mask, which weights of a layer may change places."""
    plan = session.plan.layer(layer)
    return (plan.granularity, plan.clusters) if session.settings.searches else None
