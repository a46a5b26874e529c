"""A report of a pruned model: one HTML file that shows everything and asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dit_prune_viz
from dit_prune_viz.calibration.layer_statistics import layer_statistics, weight_statistics
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import Progress
from dit_prune_viz.export.folders import new_file
from dit_prune_viz.export.report_parts.content import Pair, ReportContent, TradeoffLine
from dit_prune_viz.export.report_parts.drawings import MOST_DOTS, draw_maps, draw_scatters, draw_tradeoff
from dit_prune_viz.export.report_parts.facts import headline, model_facts, pictures_scores, recipe_content
from dit_prune_viz.export.report_parts.page import render
from dit_prune_viz.export.report_parts.tuned import gather_tuned
from dit_prune_viz.pruning.prune import known_calibration
from dit_prune_viz.pruning.pruned_model import PrunedModel


def gather(
    pruned: PrunedModel,
    *,
    statistics: Statistics | None = None,
    clusters: Mapping[str, Clusters] | None = None,
    pictures: Sequence[Pair] = (),
    curves: Sequence[TradeoffLine] | None = None,
    scores: Mapping[str, object] | None = None,
    packed_bytes: int | None = None,
    progress: Progress | None = None,
) -> ReportContent:
    """Everything that a report of a pruned model shows. Nothing is calibrated, drawn or packed for it.

    Args:
        pruned: what is reported.
        statistics: of its inputs; None takes the calibration that the model still remembers. Without one, what needs
            activations is left out, and the report says so.
        clusters: layer → clusters with their names; None takes those of the plan.
        pictures: of both models, see `make_pair` and `draw_pairs`.
        curves: a trade-off, as `experiments.table.tabulate` gives it.
        scores: for the first screen: clip, clip_dense, clip_name, ssim, psnr, and prompts and seeds, how many they are
            means over; other names are shown as they are. None takes the means over the pictures.
        packed_bytes: of the transformer in the packed format.
        progress: called while layers are looked at; may raise `Cancelled`.

    Raises:
        UserError: clusters that belong to another model.
    """
    model, report, plan = pruned.model, pruned.report, pruned.plan
    if statistics is None:
        calibration = known_calibration(model, pruned.recipe)
        statistics = Statistics(model, calibration) if calibration else None
    known = None
    if statistics:
        weight_statistics(model, progress)  # a pass over all weights, unless somebody has asked before
        known = layer_statistics(model, statistics.calibration)
    tuned, notes = gather_tuned(pruned, statistics, clusters, progress)
    return ReportContent(
        name=model.name,
        model=model_facts(model),
        recipe=recipe_content(pruned),
        headline=headline(pruned, pictures_scores(pictures) if scores is None else scores, packed_bytes),
        report=report,
        layers=model.layers,
        maps=draw_maps(model.layers, report, known),
        scatters=draw_scatters(model.layers, plan, report, known),
        tuned=tuned,
        pairs=tuple(pictures),
        tradeoff=draw_tradeoff(curves) if curves else None,
        notes=(*_notes(pruned, statistics), *notes),
        made=datetime.now(UTC),
        version=dit_prune_viz.__version__,
    )


def _notes(pruned: PrunedModel, statistics: Statistics | None) -> list[str]:
    notes = []
    if pruned.report.estimated:
        notes.append("Damages marked ≈ are read off curves, because masks of a model this large are made when needed.")
    if pruned.recipe.update:
        notes.append("Predicted damage is that of the masks; the update of the kept weights is not counted in it.")
    if statistics is None:
        notes.append("The calibration was not at hand, so layers are not drawn in the weight–activation plane.")
    if len(pruned.model.layers) > MOST_DOTS:
        notes.append(f"{MOST_DOTS:,} of the {len(pruned.model.layers):,} layers are drawn as dots.")
    return notes


def write_report(path: str | Path, content: ReportContent, *, overwrite: bool = False) -> Path:
    """Write a report: one HTML file below 8 MB that makes no request when it is opened.

    Args:
        path: of the file to be; complete or not there at all.
        content: what it shows, see `gather`.
        overwrite: whether it may replace a file that is there.

    Returns:
        The path.

    Raises:
        UserError: the file exists, cannot be written, or the disk is full.
    """
    text = render(content).encode("utf-8", "replace")
    with new_file(path, needs=len(text), overwrite=overwrite) as new:
        new.write_bytes(text)
    return Path(path)
