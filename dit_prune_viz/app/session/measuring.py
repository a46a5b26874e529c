"""What is measured about a session's plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dit_prune_viz.app.session.session import Sensed, Session
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.convergence import Convergence
from dit_prune_viz.experiments.convergence_table import find_convergence
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.scores_to_mask import mask_at
from dit_prune_viz.sensitivity.measure import measure_sensitivity

SENSITIVITY_AT = 0.5
"""The sparsity at which the map's sensitivity is measured."""


def sense(session: Session, progress: Progress | None = None) -> Session:
    """Prune every layer alone at 50 %, ranked as in the plan: relative error of the transformer's output.

    Figures are kept by content, so that what has been measured once takes no time. `progress` may raise `Cancelled`.

    Raises:
        UserError: no plan.
    """
    plan = session.need_plan()[2]

    def ranking(layer: str, sparsities: Sequence[float]) -> list[PackedMask]:
        scores = session.scores(layer)
        return [mask_at(plan.layer(layer), scores, sparsity) for sparsity in sparsities]

    statistics = session.statistics.reporting(progress)
    found = measure_sensitivity(statistics, ranking, sparsities=(SENSITIVITY_AT,), progress=progress)
    sensed = Sensed(plan.recipe, {layer: errors[0] for layer, errors in found.errors.items()})
    others = (one for one in session.sensed if one.recipe.ranking != sensed.recipe.ranking)
    return replace(session, sensed=(*others, sensed))


def converge(session: Session, seed: int = 0, progress: Progress | None = None) -> Convergence:
    """How much the masks of the session's recipe still change between 16, 32, 64, 128 and 256 calibration samples.

    Raises:
        UserError: no plan, and as in `find_convergence`.
    """
    model = session.need_plan()[0]
    seed = whole(seed, "The seed", 0, 2**32 - 1)
    return find_convergence(
        session.recipe, model, seed=seed, statistics=session.statistics.reporting(progress), progress=progress
    )
