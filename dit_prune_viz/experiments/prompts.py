"""Prompt sets as people have them, and the split that keeps evaluation and calibration apart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dit_prune_viz.checks import check_text, whole
from dit_prune_viz.errors import UserError

MAX_BYTES = 64 << 20
MAX_PROMPTS = 100_000
_COLUMN = "prompt"


@dataclass(frozen=True)
class PromptSet:
    """prompts: in the file's order. categories: the category of each, or none where the set has no categories."""

    prompts: tuple[str, ...]
    categories: tuple[str, ...] = ()

    def sample(self, count: int, seed: int = 0) -> tuple[str, ...]:
        """`count` different places of the set, drawn by `seed`; from every category the same number, as far as it goes
        (the categories drawn first get one more, a category that runs out leaves its share to the others).

        The first prompts of a larger sample are those of a smaller one. UserError for more than there are.
        """
        count = whole(count, "The number of prompts", 1, MAX_PROMPTS)
        if count > len(self.prompts):
            raise UserError(f"There are {len(self.prompts):,} prompts, fewer than the {count:,} asked for; use fewer.")
        order = torch.randperm(len(self.prompts), generator=torch.Generator().manual_seed(seed)).tolist()
        if not self.categories:
            return tuple(self.prompts[place] for place in order[:count])
        shelves: dict[str, list[int]] = {}
        for place in order:
            shelves.setdefault(self.categories[place], []).append(place)
        rounds = sorted((turn, rank, p) for rank, s in enumerate(shelves.values()) for turn, p in enumerate(s))
        return tuple(self.prompts[place] for _, _, place in rounds[:count])


def read_prompts(path: str | Path) -> PromptSet:
    """A prompt set from a file, recognised by its ending.

    .json: MJHQ-30K's meta_data.json (id → {"prompt", "category"}), or a list of texts or of such objects. .csv, .tsv:
    a table with a column "Prompt" (PartiPrompts), and "Category" if it has one. Anything else: a prompt a line. Empty
    prompts are left out. UserError for a file that cannot be read, is not UTF-8, or has no prompts.
    """
    path = Path(path)
    text = _read(path)
    if path.suffix.lower() == ".json":
        pairs = _from_json(text, path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        pairs = _from_table(text, path)
    else:
        pairs = [(line, "") for line in text.splitlines()]
    pairs = [(prompt.strip(), category.strip()) for prompt, category in pairs if prompt.strip()]
    for number, (prompt, category) in enumerate(pairs, 1):
        check_text(prompt + category, f"Prompt {number} of {path.name}")
    if not pairs:
        raise UserError(f"{path.name} has no prompts; write one a line, or give a table with a column Prompt.")
    if len(pairs) > MAX_PROMPTS:
        raise UserError(f"{path.name} has {len(pairs):,} prompts, more than {MAX_PROMPTS:,}; shorten it.")
    categories = tuple(category for _, category in pairs)
    return PromptSet(tuple(prompt for prompt, _ in pairs), categories if any(categories) else ())


def split(prompts: Sequence[str], count: int, seed: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(evaluation, calibration) prompts of a model's own, never one in both; duplicates count once.

    Calibration gets the second half of the shuffled prompts whatever `count` is, so that a smaller evaluation prunes
    the same way; if `count` needs more than the first half, calibration gets the rest. UserError if nothing would be
    left to calibrate with.
    """
    unique = tuple(dict.fromkeys(prompts))
    count = whole(count, "The number of prompts", 1, MAX_PROMPTS)
    if count >= len(unique):
        raise UserError(
            f"The model brings {len(unique)} prompts and some must be left for calibration; use fewer than that, or "
            "give a prompt set of your own."
        )
    shuffled = PromptSet(unique).sample(len(unique), seed)
    return shuffled[:count], shuffled[max(count, len(unique) // 2) :]


def held_out(pool: Sequence[str], evaluation: Sequence[str]) -> tuple[str, ...]:
    """The prompts of `pool` that are not evaluated. UserError if there are none."""
    taken = set(evaluation)
    rest = tuple(dict.fromkeys(prompt for prompt in pool if prompt not in taken))
    if not rest:
        raise UserError("Every prompt for calibration is in the evaluation too; use fewer prompts, or other ones.")
    return rest


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path.name} is larger than {MAX_BYTES >> 20} MB; give a shorter prompt set.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise UserError(f"{path} {reason}; give a text, CSV, TSV or JSON file with prompts.") from error


def _from_json(text: str, path: Path) -> list[tuple[str, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not readable JSON; give MJHQ-30K's meta_data.json or a list.") from error
    entries = list(content.values()) if isinstance(content, dict) else content
    pairs = []
    for entry in entries if isinstance(entries, list) else [None]:
        entry = {"prompt": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
            raise UserError(f'{path.name} has an entry without a "prompt"; give meta_data.json or a list of texts.')
        pairs.append((entry["prompt"], str(entry.get("category") or "")))
    return pairs


def _from_table(text: str, path: Path) -> list[tuple[str, str]]:
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except csv.Error as error:
        raise UserError(f"{path.name} is not a readable table ({error}); save it as CSV or TSV again.") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if _COLUMN not in header:
        raise UserError(f"{path.name} has no column Prompt in its first line; add one.")
    at, group = header.index(_COLUMN), header.index("category") if "category" in header else None

    def cell(row: list[str], place: int | None) -> str:
        return row[place] if place is not None and place < len(row) else ""

    return [(cell(row, at), cell(row, group)) for row in rows[1:]]
