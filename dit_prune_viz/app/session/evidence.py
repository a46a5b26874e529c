"""Runs beside what was measured before: the evidence of the Compare page, from its runs to a figure."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass

from dit_prune_viz.app.session import packed
from dit_prune_viz.app.session.runs import Run, Runs, same_requests
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import SIZE, SPARSITY, point_of
from dit_prune_viz.experiments.results import Results, Row
from dit_prune_viz.experiments.table import Unit, tabulate, unit_of
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.evidence import Dot, evidence
from dit_prune_viz.figures.style import message
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.resources import ASSETS

MEASURED = ASSETS / "measured"
"""Scores of the bundled model under many recipes, as the benchmark left them."""
SCORES = {"ssim": "SSIM", "clip": "CLIP"}
NAMED = ("magnitude", "wanda", "dit-pruning", "swap-update", "distilled-update")
EMPTY = "Every run becomes a dot here: its score over its sparsity."


def evidence_figure(session: Session | None, runs: Runs, score: str = "ssim", over: str = SPARSITY) -> Figure:
    """The runs of a page and the curves that were measured of its model."""
    score, over = (score if score in SCORES else "ssim"), (over if over == SIZE else SPARSITY)
    model = session.model if session is not None else None
    rows = measured_rows(model) if model is not None else ()
    lines = [line for line in tabulate(rows) if line.figures[score] and line.recipe != "dense"]
    unit = unit_of(lines) if lines else Unit("MB", 1e6)
    curves: dict[str, list] = {}
    for line in lines:
        if (line.sparsity > 0) if over == SPARSITY else line.nbytes is not None:
            curves.setdefault(line.recipe, []).append(point_of(line, line.figures[score], over, unit))
    dots = [dot for run in reversed(runs.runs) if (dot := dot_of(run, runs, score, over, unit)) is not None]
    if not curves and not dots:
        return message(EMPTY)
    if not lines:
        note = "dots: your runs, whiskers: spread over prompts"
    else:
        note = f"lines: {lines[0].prompts} prompts × {lines[0].seeds} seeds; dots: your runs"
    name = unit.name if over == SIZE else ""
    return evidence(curves, dots, score=SCORES[score], note=note, unit=name, named=NAMED)


def dot_of(run: Run, runs: Runs, score: str, over: str, unit: Unit) -> Dot | None:
    """A run as a dot; None for one of a part alone, or whose score or size is not
    known."""
    if not run.is_plan:
        return None
    done, x = run.comparison, 100 * run.session.report.achieved
    if over == SIZE:
        size = packed.known(run.session)
        if size is None:
            return None
        x = unit.of(size.nbytes)
    values = done.ssims if score == "ssim" else done.right.clips
    mean = done.ssim if score == "ssim" else done.right.clip
    if math.isnan(mean):  # no CLIP score applies
        return None
    alike = runs.shown is None or run in same_requests(runs.runs, runs.shown)
    drawn = f"{len(run.prompts)} prompts" if len(run.prompts) > 1 else run.prompts[0]
    first = done.requests[0]
    figures = f"SSIM {done.ssim:.3f}, {done.told}"
    return Dot(
        number=run.number,
        name=run.drawn.name,
        x=x,
        mean=mean,
        spread=statistics.stdev(values) if len(values) > 1 else 0.0,
        told=f"{figures} · {drawn}, seed {first.seed}, {first.steps} steps",
        shown=runs.shown is not None and run.number == runs.shown.number,
        is_a=runs.is_a(run),
        alike=alike,
    )


def measured_rows(model: Model) -> tuple[Row, ...]:
    """The rows that come with the app for a model; none for any but the bundled one."""
    return model.cache.get(("measured rows",), lambda: _Held(_read_rows(model.fingerprint))).rows


@dataclass(frozen=True, eq=False)
class _Held:
    """Rows in a cache, which would take a row's `nbytes`, those of a stored model, for what the row itself takes."""

    rows: tuple[Row, ...]

    @property
    def nbytes(self) -> int:
        return sum(64 * len(values) for row in self.rows for values in row.scores.values())


def _read_rows(fingerprint: str) -> tuple[Row, ...]:
    try:
        known = json.loads((MEASURED / "experiment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(Results(MEASURED / "results.jsonl").rows) if known.get("fingerprint") == fingerprint else ()
