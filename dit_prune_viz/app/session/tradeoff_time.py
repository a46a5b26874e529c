"""How long a comparison will take, before it starts: what its pruning takes, and every step of every picture."""

from __future__ import annotations

from collections.abc import Sequence

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.work_time import (
    BUNDLED_CALL,
    WorkTime,
    recipe_time,
    work_of,
)
from dit_prune_viz.disk_cache import content_key
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.prune_cells import DENSE_RECIPE
from dit_prune_viz.experiments.results import Row

BUNDLED_STEP = 0.1
"""Seconds that a denoising step of one picture takes with the bundled model on two CPU cores, scores included."""


def comparison_time(session: Session, experiment: Experiment) -> WorkTime:
    """How long the comparison takes where nothing of it was measured before; unknown without a calibration."""
    statistics, times = session.statistics, session.store.times
    if statistics is None:
        return WorkTime(None)
    steps = experiment.drawing(session.need_model()).steps
    cells = experiment.cells()
    pictures = (1 + len(cells)) * len(experiment.prompts) * len(experiment.seeds)
    pace = times.find(_key(session))
    known = pace is not None
    if not known:
        scale = work_of(statistics)[1] / BUNDLED_CALL
        pace = BUNDLED_STEP * scale * times.slowness(statistics.model.device)
    total = WorkTime(pace * steps * pictures, known) + WorkTime(session.calibration.seconds, True)
    for named, level in cells:
        total = total + recipe_time(times, statistics, level.of(named.recipe))
    return total


def in_words(session: Session, experiment: Experiment) -> str:
    """How much a comparison is and how long it takes, as Markdown."""
    cells = len(experiment.cells()) + 1
    what = (
        f"{formatting.counted(cells, 'row')} with the dense one × "
        f"{formatting.counted(len(experiment.prompts), 'prompt')} × "
        f"{formatting.counted(len(experiment.seeds), 'seed')}"
    )
    return f"{what}: **{comparison_time(session, experiment).words}**. What was measured before takes no time."


def remember_pace(session: Session, experiment: Experiment, rows: Sequence[Row]) -> None:
    """Keep the seconds per step and picture that a comparison took; those of the row that waited for least else."""
    steps = experiment.drawing(session.need_model()).steps
    paces = [
        (row.seconds - row.prune_seconds) / (row.prompts * steps)
        for row in rows
        if row.recipe != DENSE_RECIPE.name and row.prompts
    ]
    if paces and min(paces) > 0:
        session.store.times.put(_key(session), min(paces))


def _key(session: Session) -> str:
    model = session.need_model()
    size = [model.defaults.height, model.defaults.width]
    return content_key("pace", model.fingerprint, str(model.dtype), model.device.type, size)
