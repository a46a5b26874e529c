"""The verb that moves CAG's line: layers above it are ranked row by row, layers below as a whole."""

from __future__ import annotations

from dataclasses import replace

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress
from dit_prune_viz.pruning.prune import rank_again


def set_threshold(session: Session, threshold: float | None, progress: Progress | None = None) -> Session:
    """Move the G_out above which layers are ranked row by row; None goes back to the model's own.

    Only layers that change sides are masked anew; all layers keep the sparsities given to their clusters. `prune`
    keeps the threshold while the scores stay.

    Raises:
        UserError: no plan, a plan that does not rank by CAG, a threshold that is not a number of 0 or more.
    """
    plan = session.need_plan()[2]
    after = plan.with_threshold(threshold)
    pruned = rank_again(session.pruned, after, session.statistics.reporting(progress), later=True)
    return replace(session, recipe=after.recipe, pruned=pruned)
