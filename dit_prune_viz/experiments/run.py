"""Methods × sparsities × seeds over a set of prompts, cell by cell, each written down as soon as it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.checks import whole
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.dense_pictures import DenseStore
from dit_prune_viz.experiments.draw_cells import CellDrawer
from dit_prune_viz.experiments.experiment import (
    DESCRIPTION,
    Experiment,
    check,
    describe,
    digest,
    documented,
    write_description,
)
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.processes import Alone
from dit_prune_viz.experiments.prune_cells import DENSE_RECIPE, CellPruner, is_quick
from dit_prune_viz.experiments.requests import default_batch
from dit_prune_viz.experiments.results import UNREAD, Results, Row
from dit_prune_viz.generation.unread import find_unread
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.named_recipes import DENSE, NamedRecipe

RESULTS, PICTURES = "results.jsonl", "dense"


@dataclass(frozen=True, eq=False)
class Outcome:
    """rows: the experiment's cells, finished now or earlier. notice: a sentence about the file, or None."""

    rows: tuple[Row, ...]
    notice: str | None = None


def run(
    model: Model,
    experiment: Experiment,
    folder: str | Path,
    *,
    clip: ClipScorer | None = None,
    calibration: Calibration | None = None,
    pictures: str | Path | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
    on_row: Callable[[Row], None] | None = None,
    turn: Callable[[], AbstractContextManager] = nullcontext,
    processes: Alone | None = None,
    cache: DiskCache | None = None,
) -> Outcome:
    """Measure every cell that `folder` does not have yet; `results.jsonl` in it grows by one row per cell.

    Args:
        model: stays as it was.
        clip: None leaves the CLIP scores out.
        calibration: made with the experiment's settings if there is one already.
        pictures: folder for the dense pictures, `folder`/dense unless given; runs may share it.
        batch: pictures drawn at a time; None chooses by the model's size.
        progress: called after every denoising step, counted in pictures of this run; may raise `Cancelled`. Whatever
            stops a run, the cells that were finished stay.
        on_row: called with every row, those of an earlier run first.
        turn: a context in which model work is done, entered anew for every batch.
        processes: shares the work out; None is this process alone.
        cache: where the calibration is looked up and kept.

    Raises:
        UserError: no recipe, level, prompt or seed; a prompt in both sets; a folder or file that cannot be used.
    """
    check(experiment)
    processes = processes or Alone()
    folder = Path(folder)
    results = Results(folder / RESULTS)
    description = documented(experiment, describe(experiment, model, clip))
    name = description["digest"]
    if processes.main:
        write_description(folder / DESCRIPTION, description)
    cells = [(DENSE_RECIPE, Level(0.0)), *experiment.cells()]
    wanted = [(c, level, seed) for c, level in cells for seed in experiment.seeds]
    known = {row.key: row for row in results.of(name)}
    known = processes.same(known)
    # Settings make a cell, not names: one that was measured under another name counts.
    mine = [replace(known[key], recipe=cell[0].name) for cell in wanted if (key := _key(name, *cell)) in known]
    for row in mine:
        if on_row:
            on_row(row)
    missing = [cell for cell in wanted if _key(name, *cell) not in known]
    if missing or any(row.unread is None for row in mine):
        with turn():
            unread = _unread(model, experiment, clip)
        mine = [replace(row, unread=unread) for row in mine]
    if missing or any(row.nbytes is None for row in mine):
        size = default_batch(model) if batch is None else whole(batch, "The batch", 1, 1024)
        store = DenseStore(Path(pictures) if pictures else folder / PICTURES, model)
        drawer = CellDrawer(model, experiment, clip, store, size, turn, processes, progress, max(1, len(missing)))
        pruner = CellPruner(drawer, calibration, cache)
        for row in _measure(drawer, pruner, missing, name):
            row = replace(row, unread=unread)
            if processes.main:
                results.append(row)
            mine.append(row)
            if on_row:
                on_row(row)
        if processes.main:
            for row in _weigh(pruner, wanted, mine, name):
                results.append(row)
                mine = [row if one.key == row.key else one for one in mine]
    order = {_key(name, *cell): place for place, cell in enumerate(wanted)}
    return Outcome(tuple(sorted(mine, key=lambda row: order[row.key])), results.notice)


def _unread(model: Model, experiment: Experiment, clip: ClipScorer | None) -> dict[str, list[str]]:
    """As in `Row.unread`: of all cells alike."""
    found = [unread.named for unread in find_unread(model, experiment.prompts, clip)]
    return {name: words for name in UNREAD if any(words := [ends.get(name, "") for ends in found])}


def cell_digest(named: NamedRecipe) -> str:
    """What decides a cell's masks and weights, beside the sparsity and the calibration that the experiment describes.

    The versions of the methods are part of it, so that rows of a method that has changed are measured again.
    """
    settings = {name: value for name, value in named.recipe.changes.items() if name not in ("sparsity", "calibration")}
    return digest([named.name == DENSE, settings, named.recipe.versions])


def _key(name: str, recipe: NamedRecipe, level: Level, seed: int) -> tuple[str, str, str, int]:
    return name, cell_digest(recipe), level.label, seed


def _measure(
    drawer: CellDrawer, pruner: CellPruner, missing: list[tuple[NamedRecipe, Level, int]], name: str
) -> Iterator[Row]:
    for recipe, level, seed in missing:
        start = time.perf_counter()
        pruned, nbytes = pruner.of(recipe, level)
        drawn = drawer.draw(pruned, f"{recipe.name} {level.label}", seed)
        yield Row(
            experiment=name,
            recipe=recipe.name,
            digest=cell_digest(recipe),
            level=level.label,
            sparsity=pruned.report.achieved if pruned else 0.0,
            seed=seed,
            damage=pruned.report.damage if pruned else 0.0,
            prune_seconds=pruned.seconds if pruned else 0.0,
            seconds=time.perf_counter() - start,
            scores=drawn.scores,
            nbytes=nbytes,
            destroyed=drawn.destroyed if any(drawn.destroyed) else [],
        )


def _weigh(
    pruner: CellPruner, cells: list[tuple[NamedRecipe, Level, int]], rows: list[Row], name: str
) -> Iterator[Row]:
    """Rows of an earlier version, which lack their bytes, with them; those whose pruning takes seconds."""
    lacking = {row.key: row for row in rows if row.nbytes is None}
    for recipe, level, seed in cells:
        row = lacking.get(_key(name, recipe, level, seed))
        if row is not None and is_quick(recipe):
            nbytes = pruner.of(recipe, level)[1]
            if nbytes is not None:
                yield replace(row, nbytes=nbytes)
