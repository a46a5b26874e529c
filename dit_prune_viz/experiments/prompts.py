"""Prompt sets as people have them, and the split that keeps evaluation and calibration apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dit_prune_viz.checks import check_text, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.prompt_files import MAX_BYTES, PROMPT_FILES, read_file
from dit_prune_viz.generation.request import MAX_PROMPT

MAX_PROMPTS = 100_000
MAX_FILES = 10_000


@dataclass(frozen=True)
class PromptSet:
    """What a prompt file holds.

    prompts: in the file's order, repeated ones as well. categories: the category of each ("" for none), or empty where
    the set has no categories. too_long: how many were left out because no model is asked for so long a prompt.
    """

    prompts: tuple[str, ...]
    categories: tuple[str, ...] = ()
    too_long: int = 0

    @property
    def duplicates(self) -> int:
        """How many prompts were there before."""
        return len(self.prompts) - len(set(self.prompts))

    @property
    def sizes(self) -> dict[str, int]:
        """Category → how many prompts it has, the largest first."""
        return dict(Counter(name for name in self.categories if name).most_common())

    @property
    def summary(self) -> str:
        """One sentence: how many prompts, categories, duplicates and over-long prompts were read."""
        parts = [_many(len(self.prompts), "prompt")]
        if self.sizes:
            parts[0] += f" in {_many(len(self.sizes), 'category', 'categories')}"
        parts.append(f"{_many(self.duplicates, 'duplicate')}{', drawn once' if self.duplicates else ''}")
        left = f", left out (longer than {MAX_PROMPT:,} characters)" if self.too_long else ""
        parts.append(f"{self.too_long:,} too long{left}")
        return "; ".join(parts) + "."

    def draw(self, count: int, seed: int = 0) -> PromptSet:
        """`count` different prompts of the set, with their categories, drawn by `seed`; from every category the same
        number, as far as it goes (the categories drawn first get one more, a category that runs out leaves its share
        to the others).

        The first prompts of a larger draw are those of a smaller one. UserError for more than there are.
        """
        count = whole(count, "The number of prompts", 1, MAX_PROMPTS)
        there = len(self.prompts) - self.duplicates
        if count > there:
            raise UserError(f"There are {there:,} prompts, fewer than the {count:,} asked for; use fewer.")
        order = torch.randperm(len(self.prompts), generator=torch.Generator().manual_seed(seed)).tolist()
        if self.categories:
            shelves: dict[str, list[int]] = {}
            for place in order:
                shelves.setdefault(self.categories[place], []).append(place)
            rounds = sorted((turn, rank, p) for rank, s in enumerate(shelves.values()) for turn, p in enumerate(s))
            order = [place for _, _, place in rounds]
        first: dict[str, int] = {}
        for place in order:
            first.setdefault(self.prompts[place], place)
        chosen = list(first.values())[:count]
        names = tuple(self.categories[place] for place in chosen) if self.categories else ()
        return PromptSet(tuple(self.prompts[place] for place in chosen), names)

    def sample(self, count: int, seed: int = 0) -> tuple[str, ...]:
        """The prompts of `draw`."""
        return self.draw(count, seed).prompts


def read_prompts(path: str | Path | Sequence[str | Path]) -> PromptSet:
    """The prompts of a file, of several, or of a folder.

    Text has a prompt a line. A table (.csv by RFC 4180; .tsv, whose quotes are text) has a column Prompt, Prompts,
    caption or text in any case (the first of these that is there), and Category or tag if it has categories, as
    PartiPrompts and DrawBench do. JSON is an entry a line (GenEval), a list, or a dictionary of texts or of objects
    with such keys (MJHQ-30K's meta_data.json, COCO's captions, HPSv2's styles). UTF-8, or UTF-16 with its mark. Empty
    prompts are left out, and those that are too long are counted.

    A folder is all prompt files in it, in the order of their names with numbers by value (DPG-Bench, T2I-CompBench).
    Where one of several files has more than one prompt and no categories, its name is the category.

    Args:
        path: a file, a folder, or several files.

    Returns:
        The prompts with their categories.

    Raises:
        UserError: a file that cannot be read, is larger than 64 MB, is no list of prompts (a picture, say) or has none,
            or more than 100,000 prompts; one sentence says which.
    """
    files = _files(path)
    name = files[0].name if len(files) == 1 else f"{files[0].parent.name} ({len(files):,} files)"
    many = len(files) > 1
    parts = [(file, [(p.strip(), c.strip()) for p, c in read_file(file) if p.strip()]) for file in files]
    # A folder of single prompts, a file each, has no categories, but one of lists has.
    named = many and any(len(pairs) > 1 for _, pairs in parts)
    pairs = []
    for file, found in parts:
        for number, (prompt, category) in enumerate(found, 1):
            check_text(prompt + category, f"Prompt {number} of {file.name}")
        own = file.stem if named and not any(category for _, category in found) else ""
        pairs += [(prompt, category or own) for prompt, category in found]
    kept = [pair for pair in pairs if len(pair[0]) <= MAX_PROMPT]
    if not kept:
        what = f" of at most {MAX_PROMPT:,} characters" if pairs else ""
        raise UserError(f"{name} has no prompts{what}; write one a line, or give a table with a column Prompt.")
    if len(kept) > MAX_PROMPTS:
        raise UserError(f"{name} has {len(kept):,} prompts, more than {MAX_PROMPTS:,}; shorten it.")
    categories = tuple(category for _, category in kept)
    prompts = tuple(prompt for prompt, _ in kept)
    return PromptSet(prompts, categories if any(categories) else (), len(pairs) - len(kept))


def _files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files to read, at least one. UserError for a folder without any, and for too many or too large ones."""
    several = not isinstance(path, (str, Path))
    files = [Path(one) for one in path] if several else [Path(path)]
    if len(files) == 1 and files[0].is_dir():
        folder = files[0]
        files = sorted((file for file in folder.iterdir() if _is_prompt_file(file)), key=_by_number)
        if not files:
            raise UserError(f"{folder} holds no prompt files; they end in {', '.join(PROMPT_FILES)}.")
    if not files:
        raise UserError("There is no prompt file; give at least one.")
    if len(files) > MAX_FILES:
        raise UserError(f"There are {len(files):,} prompt files, more than {MAX_FILES:,}; put the prompts in one file.")
    if len(files) > 1 and sum(file.stat().st_size for file in files if file.is_file()) > MAX_BYTES:
        raise UserError(f"The prompt files are larger than {MAX_BYTES >> 20} MB together; give fewer.")
    return sorted(files, key=_by_number) if several else files


def _is_prompt_file(file: Path) -> bool:
    return file.suffix.lower() in PROMPT_FILES and not file.name.startswith(".") and file.is_file()


def _by_number(file: Path) -> list:
    """2.txt before 10.txt."""
    parts = re.split(r"(\d+)", file.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _many(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


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
