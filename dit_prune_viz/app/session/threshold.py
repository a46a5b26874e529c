"""The verb that moves CAG's line: layers above it are ranked row by row, layers below as a whole."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.pruning.report import report_layer


def set_threshold(session: Session, threshold: float | None, progress: Progress | None = None) -> Session:
    """Move the G_out above which layers are ranked row by row; None goes back to the model's own.

    Only layers that change sides are masked anew; all layers keep the sparsities given to their clusters. `prune`
    keeps the threshold while the scores stay.

    Raises:
        UserError: no plan, a plan that does not rank by CAG, a threshold that is not a number of 0 or more.
    """
    model, _, plan = session.need_plan()
    by_hand = None if threshold is None else _checked(threshold)
    after = plan.with_threshold(own_threshold(session) if by_hand is None else by_hand)
    after = replace(after, recipe=replace(session.recipe, threshold=by_hand))
    changed = [name for name, layer in after.layers.items() if layer is not plan.layers[name]]
    layers, report = dict(session.pruned.layers), session.report
    for done, name in enumerate(changed):
        if progress:
            progress(done, len(changed), f"Masking {name}")
        layer = after.layer(name)
        mask = pack(mask_of_scores(layer, session.scores(name)))
        layers[name] = PrunedLayer(mask)
        report = report.with_layer(report_layer(layer, mask, model.weight(name), session.mean_square(name)))
    # What was measured holds for the ranking that it was measured with.
    sensitivity = {} if changed else session.sensitivity
    pruned = replace(session.pruned, plan=after, layers=layers, report=report)
    return replace(session, recipe=after.recipe, pruned=pruned, sensitivity=sensitivity)


def own_threshold(session: Session) -> float:
    """The threshold found in the model's own G_out, wherever the line is now; infinity where they cannot be split."""
    return cag_threshold(layer.g_out for layer in session.need_plan()[2].layers.values())


def _checked(threshold: object) -> float:
    good = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not good or not 0 <= threshold < math.inf:
        raise UserError(f"The G_out threshold must be a number of 0 or more, but it is {brief(threshold)}.")
    return float(threshold)
