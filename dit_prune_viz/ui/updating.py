"""The weight update of a session, made when a picture needs it and only for layers whose mask has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import TYPE_CHECKING

from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.prune import update_masked
from dit_prune_viz.ui.pruning import supplies
from dit_prune_viz.update import UpdatedWeights

if TYPE_CHECKING:
    from dit_prune_viz.ui.session import Session


def update(session: Session, progress: Progress | None = None) -> dict[str, UpdatedWeights]:
    """Layer → updated weights for the session's masks, empty if its settings have no update; inside `Workspace.turn`.

    Layers whose masks have been updated before take no time, unless the update is sequential, which lets every layer
    depend on all earlier ones. UserError as in `update_model`; `progress` may raise Cancelled, nothing is kept then.
    """
    session.need_plan()
    if not session.settings.update:
        return {}
    shelf, keys = session.workspace.updates, _keys(session)
    known = shelf.find(keys)
    missing = {layer: mask for layer, mask in session.masks.items() if layer not in known}
    if missing:
        wanted = session.masks if session.settings.sequential else missing
        made = update_masked(session.settings.candidate, supplies(session, progress), wanted, progress=progress)
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
    basis = session.model.number, session.calibration, settings.update, settings.timestep
    if settings.sequential:
        whole = hashlib.sha256("".join(mask.digest for mask in session.masks.values()).encode()).hexdigest()
        return {layer: (*basis, layer, whole) for layer in session.masks}
    return {layer: (*basis, layer, mask.digest) for layer, mask in session.masks.items()}
