"""The verb that moves CAG's line: layers above it are ranked row by row, layers below as a whole."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING

from dit_prune_viz.app.session import ranking
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.build_masks import build_mask
from dit_prune_viz.pruning.report import report_layer

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session


def set_threshold(session: Session, threshold: float | None, progress: Progress | None = None) -> Session:
    """Move the G_out above which layers are ranked row by row; None goes back to the model's own.

    Only layers that change sides are masked anew; all layers keep the sparsities given to their clusters. `prune`
    keeps the threshold while the method stays. UserError without a plan, for a plan that does not rank by CAG, and for
    a threshold that is not a number of 0 or more.
    """
    model, _, plan = session.need_plan()
    by_hand = None if threshold is None else _checked(threshold)
    after = plan.with_threshold(own_threshold(session) if by_hand is None else by_hand)
    changed = [name for name, layer in after.layers.items() if layer is not plan.layers[name]]
    masks, report = {}, session.report
    for done, name in enumerate(changed):
        if progress:
            progress(done, len(changed), f"Masking {name}")
        layer, weight = after.layer(name), model.weight(name)
        masks[name] = pack(build_mask(layer, after.saliency, weight, ranking.statistic(session, name)))
        report = report.with_layer(report_layer(layer, masks[name], weight, ranking.mean_square(session, name)))
    # What was measured holds for the ranking that it was measured with.
    sensitivity = {} if changed else session.sensitivity
    masks = {**session.masks, **masks}
    return replace(session, plan=after, masks=masks, report=report, threshold=by_hand, sensitivity=sensitivity)


def own_threshold(session: Session) -> float:
    """The threshold found in the model's own G_out, wherever the line is now; infinity where they cannot be split."""
    return cag_threshold(layer.g_out for layer in session.need_plan()[2].layers.values())


def _checked(threshold: object) -> float:
    good = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not good or not 0 <= threshold < math.inf:
        raise UserError(f"The G_out threshold must be a number of 0 or more, but it is {brief(threshold)}.")
    return float(threshold)
