"""The name that a person gives to a plan."""

from __future__ import annotations

from dataclasses import dataclass

from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.plan import PruningPlan

LONGEST = 60


@dataclass(frozen=True, eq=False)
class PlanName:
    """A name, and the plan it was given to: one that was changed since is told so."""

    text: str
    plan: PruningPlan

    def of(self, plan: PruningPlan | None) -> str:
        """What a plan that came from the named one is called."""
        return self.text if plan is self.plan else f"{self.text}, changed"


def checked_name(text: object) -> str:
    """A name on one line. UserError for none, or a long one."""
    name = " ".join(str(text or "").split())
    if not name:
        raise UserError("Write a name for the plan first.")
    if len(name) > LONGEST:
        raise UserError(f"The name has {len(name)} characters; use at most {LONGEST}.")
    return name
