"""The verb that moves CAG's line: layers above it are ranked row by row, layers below as a whole."""

from __future__ import annotations

from dataclasses import replace

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.pruning.report import report_layer


def set_threshold(session: Session, threshold: float | None, progress: Progress | None = None) -> Session:
    """Move the G_out above which layers are ranked row by row; None goes back to the model's own.

    Only layers that change sides are masked anew; all layers keep the sparsities given to their clusters. `prune`
    keeps the threshold while the scores stay.

    Raises:
        UserError: no plan, a plan that does not rank by CAG, a threshold that is not a number of 0 or more.
    """
    model, _, plan = session.need_plan()
    after = plan.with_threshold(threshold)
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
