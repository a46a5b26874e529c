"""The sessions of callers that keep none: the prepared one, pruned by the recipe that a call brings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.recipe_io import pruned_with
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError

MOST_TEXT = 4 << 20
"""Characters of a recipe's JSON."""

FindSession = Callable[[str], Session | None]
"""The session of an id; None where there is none."""


class RecipeSessions:
    """Finds the session that a call is about, and remembers those of the last recipes.

    Args:
        startup: prepares the session that recipes prune.
        find: the sessions that have an id; none unless given.
    """

    def __init__(self, startup: Startup, find: FindSession | None = None) -> None:
        self._startup, self._find = startup, find or (lambda _: None)

    @property
    def out(self) -> Path:
        """Where all that is taken away goes."""
        return self._startup.out

    def base(self, session: str | None, report: Reporter) -> Session:
        """The session of an id, or the prepared one, waiting for it.

        Raises:
            UserError: no such session, or no model could be prepared.
        """
        if session is not None:
            found = self._find(session)
            if found is None:
                raise UserError(f"There is no session {brief(session)}; give a recipe, or the id in a page's address.")
            return found
        report.follow(self._startup.watch())
        prepared = self._startup.wait()
        if prepared.statistics is None:
            raise UserError(self._startup.problem or "The model is not calibrated; open the app and calibrate it.")
        prepared.store.people.saw(report.owner or "", prepared)  # nobody takes the model away meanwhile
        return prepared

    def pruned(self, recipe: object, sparsity: object, session: str | None, report: Reporter) -> Session:
        """The session with a plan: pruned by a recipe, or as it is where none is given.

        Args:
            recipe: a JSON object as `read_recipe` takes it, or the name of a recipe; None for the session's plan.
            sparsity: in place of the recipe's.
            session: an id; None for the prepared session.
            report: told how far it is; may raise `Cancelled`.

        Raises:
            UserError: as in `base`, `read_recipe` and `Session.prune`.
        """
        asked = _asked(recipe, sparsity)
        base = self.base(session, report)
        if asked is None:
            base.need_plan()
            return base
        if session is not None:  # whose clusters and thresholds play a part
            return pruned_with(base, asked, report)
        # The cache is the startup's: it must go with the model.
        cache, key = self._startup.by_recipe, (base.model.number, _text(asked))
        return cache.get(key, lambda: _Kept(pruned_with(base, asked, report))).session


@dataclass(frozen=True, eq=False)
class _Kept:
    """A session and about how much memory it alone takes, that of its masks."""

    session: Session

    @property
    def nbytes(self) -> int:
        return self.session.model.prunable_parameters // 8


def _asked(recipe: object, sparsity: object) -> dict[str, Any] | None:
    if isinstance(recipe, str):
        recipe = {"method": recipe}
    if recipe is None:
        return None if sparsity is None else {"sparsity": sparsity}
    if not isinstance(recipe, Mapping):
        raise UserError(f"A recipe is a JSON object or the name of one, not {brief(recipe)}.")
    return {**recipe} if sparsity is None else {**recipe, "sparsity": sparsity}


def _text(recipe: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(recipe, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise UserError('The recipe is no JSON object; write one such as {"method": "swap"}.') from None
    if len(text) > MOST_TEXT:
        raise UserError(f"The recipe has {len(text):,} characters; at most {MOST_TEXT:,} are read.")
    return text
