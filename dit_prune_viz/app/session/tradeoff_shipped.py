"""Measurements that come with the app, shown until a person has measured something: those of the bundled model."""

from __future__ import annotations

from collections.abc import Sequence

from dit_prune_viz.app.session.scratch import Scratch
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import Measured
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.experiment import read_description
from dit_prune_viz.experiments.export import caption, export
from dit_prune_viz.experiments.results import Results, Row
from dit_prune_viz.experiments.run import RESULTS
from dit_prune_viz.pruning.named_recipes import DENSE
from dit_prune_viz.resources import ASSETS

FOLDER = ASSETS / "measured"


def on_screen(session: Session | None, measured: Measured, methods: Sequence[str]) -> Measured:
    """What the page shows: what was measured on it, else what comes with the app of the chosen methods."""
    if measured.rows or session is None or session.model is None:
        return measured
    known = session.model.cache.get(("shipped measurements",), lambda: _shipped(session.model.fingerprint))
    if known is None:
        return measured
    rows, description = known
    chosen = _of(rows, methods)
    if not chosen:
        return measured
    about = caption(chosen, description)[0]
    return Measured(
        chosen, description.get("clip") or "", source=f"Measured before, and shipped with the app: {about}. "
    )


def with_files(session: Session | None, shown: Measured) -> Measured:
    """What is shown, with files to download."""
    if not shown.source or shown.files or session is None:
        return shown
    description = session.model.cache.find(("shipped measurements",))[1]
    scratch = Scratch()
    files = tuple(map(str, export(shown.rows, description, scratch.path, "tradeoff")))
    return Measured(shown.rows, shown.clip_name, files, source=shown.source, scratch=scratch)


def _of(rows: Sequence[Row], methods: Sequence[str]) -> tuple[Row, ...]:
    """The rows of the chosen methods and of the dense model, the sparsest last; none where none of the methods was
    measured."""
    chosen = [row for row in rows if row.recipe in {DENSE, *methods}]
    chosen.sort(key=lambda row: (row.recipe != DENSE, ":" in row.level, round(row.sparsity, 3)))
    return tuple(chosen) if any(row.recipe != DENSE for row in chosen) else ()


def _shipped(fingerprint: str) -> tuple[tuple[Row, ...], dict] | None:
    """The rows of the model with this fingerprint, and what they are; None where there are none."""
    try:
        description = read_description(FOLDER)
        if description["fingerprint"] != fingerprint:
            return None
        return tuple(Results(FOLDER / RESULTS).of(description["digest"])), description
    except (UserError, KeyError):
        return None  # an installation without them
