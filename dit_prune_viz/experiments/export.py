"""Results as files for other programs: CSV, JSON and PNG."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from dit_prune_viz.csv_text import csv_text
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.curves_png import draw_curves
from dit_prune_viz.experiments.results import SCORES, UNREAD, Row
from dit_prune_viz.experiments.table import tabulate
from dit_prune_viz.formatting import counted
from dit_prune_viz.pruning.named_recipes import DENSE
from dit_prune_viz.whole_file import whole_file, write_whole

_FIELDS = (
    *("recipe", "level", "sparsity", "nbytes", "seed", "prompts"),
    *SCORES,
    *("damage", "prune_seconds", "seconds"),
    *UNREAD,
    "destroyed",
)

_NAMED_SEEDS = 5
"""So many are named, more are counted."""


def as_csv(rows: Sequence[Row]) -> str:
    """A line per cell, each score its mean over the prompts, empty where there is none; the last columns say of which
    prompts the model or the CLIP does not read some words, and which, and of which the picture is destroyed."""
    return csv_text(_FIELDS, map(_line, rows))


def _line(row: Row) -> list[object]:
    words = {name: (row.unread or {}).get(name, ()) for name in UNREAD} | {"destroyed": row.destroyed}
    values = {name: row.mean(name) for name in SCORES}
    values |= {name: _by_prompt(told) for name, told in words.items()}
    return [values[name] if name in values else getattr(row, name) for name in _FIELDS]


def _by_prompt(words: Iterable[str]) -> str:
    return "; ".join(f"prompt {number}: {text}" for number, text in enumerate(words, 1) if text)


def as_json(rows: Sequence[Row], description: Mapping[str, object]) -> str:
    """Everything: what was asked for, every cell with a score per prompt, and the table."""
    content = {
        "experiment": description,
        "cells": [asdict(row) for row in rows],
        "table": [asdict(line) for line in tabulate(rows)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def caption(rows: Sequence[Row], description: Mapping[str, object]) -> list[str]:
    """What was measured, in lines for a picture of it: model, prompts, seeds, settings, and what its whiskers are."""
    lines = [line for line in tabulate(rows) if line.recipe != DENSE]
    if not lines:
        return []
    drawing = description.get("drawing")
    drawing = drawing if isinstance(drawing, Mapping) else {}
    seeds = sorted({row.seed for row in rows})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    sides = [drawing[side] for side in ("width", "height") if side in drawing]  # the font knows no ×
    told = (
        str(description.get("model") or ""),
        counted(lines[0].prompts, "prompt"),
        named if len(seeds) <= _NAMED_SEEDS else counted(len(seeds), "seed"),
        counted(drawing["steps"], "step") if "steps" in drawing else "",
        f"guidance {drawing['guidance_scale']:g}" if drawing.get("guidance_scale") is not None else "",
        f"{' by '.join(map(str, dict.fromkeys(sides)))} pixels" if sides else "",
        str(description.get("dtype") or "").removeprefix("torch."),
    )
    clip = f"CLIP by {description['clip']}. " if description.get("clip") else ""
    open_marks = " Open marks: N:M patterns." if any(":" in line.level for line in lines) else ""
    return [", ".join(filter(None, told)), f"{clip}Whiskers: {lines[0].spread_words}.{open_marks}"]


def export(rows: Sequence[Row], description: Mapping[str, object], folder: Path, name: str = "results") -> list[Path]:
    """Write `name`.csv, .json and .png into `folder`; returns their paths."""
    paths = [folder / f"{name}{ending}" for ending in (".csv", ".json", ".png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(paths[0], as_csv(rows))
        write_whole(paths[1], as_json(rows, description))
        curves = draw_curves(tabulate(rows), caption(rows, description))
        with whole_file(paths[2]) as part:
            curves.save(part, "PNG")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); choose another folder.") from error
    return paths
