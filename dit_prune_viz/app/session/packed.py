"""How many bytes a session's plan takes in the packed format: estimated at once, exact where that takes no time."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass

from dit_prune_viz.app.session.finishing import finish, is_finished
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.packed_size import packed_bytes, packed_sizes
from dit_prune_viz.export.stored_bytes import dense_bytes
from dit_prune_viz.pipelines.model import Model

EXACT_UP_TO = 200_000_000
"""Parameters of a model that is packed to know its size, which takes a second for so many."""
_OPEN_SECONDS = 60.0
"""The first page waits no longer than this for weights that it does not need."""
_DENSE = ("dense bytes",)


@dataclass(frozen=True)
class PackedBytes:
    """The transformer in the packed format.

    Attributes:
        nbytes: of it.
        dense: bytes of the dense transformer as it would be stored.
        exact: whether it was packed to know; else it is estimated, within 3 %.
    """

    nbytes: int
    dense: int
    exact: bool


def known(session: Session) -> PackedBytes | None:
    """What is known at once: exact bytes where `measure` has found them, else an estimate.

    None without a plan, before `prepare` has looked at the model, and for one that cannot be packed.
    """
    model, pruned = session.model, session.pruned
    dense = None if model is None else model.cache.find(_DENSE)
    if pruned is None or dense is None:
        return None
    nbytes = model.cache.find(_key(session))
    exact = nbytes is not None
    try:
        return PackedBytes(nbytes if exact else packed_sizes(model).estimate(pruned), dense, exact)
    except UserError:
        return None


def by_layer(session: Session) -> dict[str, float] | None:
    """Layer → about how many bytes it takes; None where `known` says nothing."""
    if session.pruned is None or session.model.cache.find(_DENSE) is None:
        return None
    try:
        return packed_sizes(session.model).by_layer(session.pruned)
    except UserError:
        return None


def prepare(model: Model) -> None:
    """Look at a model's weights once, which takes a while for a large one, so that `known` knows at once.

    Waits for the pipeline of the model that opens in two steps.
    """
    if not model.wait_until_open(_OPEN_SECONDS):
        return
    with suppress(UserError):  # of what cannot be packed
        packed_sizes(model)
        model.cache.get(_DENSE, lambda: dense_bytes(model))


def measure(session: Session) -> bool:
    """Pack the session's model to know its size; whether it could be done.

    It is not done for a large model, and while searches or updates of the recipe are not done.
    """
    if session.pruned is None or session.model.parameters > EXACT_UP_TO or not _done(session):
        return False
    try:
        session.model.cache.get(_key(session), lambda: packed_bytes(finish(session)))
    except UserError:
        return False
    return True


def _key(session: Session) -> Hashable:
    # By the plan's own object, which the cache must not keep alive; what is computed with its update is another one.
    return "packed bytes", weakref.ref(session.pruned), _done(session)


def _done(session: Session) -> bool:
    """Whether nothing of the recipe is left to do."""
    return not session.recipe.finishes or is_finished(session)
