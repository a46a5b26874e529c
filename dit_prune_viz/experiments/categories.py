"""Quality per category of prompts: what breaks first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dit_prune_viz.experiments.results import SCORES, Row
from dit_prune_viz.experiments.table import COLUMNS, Difference, difference, tabulate
from dit_prune_viz.pruning.named_recipes import DENSE

MOST = 24
"""Categories that are told apart; smaller ones than the largest of them are one together."""
NONE, REST = "no category", "other categories"
TO_DENSE = ("clip", "ssim", "latent_mse")
"""Scores that the dense model has as well; a PSNR to itself would be infinite."""
_HIGHER_IS_BETTER = ("clip", "ssim", "psnr")
_DENSE_CELL = (DENSE, "0 %")


@dataclass(frozen=True)
class CategoryLine:
    """One recipe at one level, by category.

    changes: category → how far its mean is from the dense model's on the same prompts and noises, for the scores of
    `TO_DENSE`, else the mean itself; categories without a score are left out. nbytes: as in `Line`.
    """

    recipe: str
    level: str
    sparsity: float
    score: str
    changes: Mapping[str, Difference]
    nbytes: int | None = None

    @property
    def worst(self) -> str | None:
        """The category that suffers most; None where they do not differ."""
        means = {name: change.mean for name, change in self.changes.items()}
        if len(set(means.values())) < 2:
            return None
        return (min if self.score in _HIGHER_IS_BETTER else max)(means, key=means.get)


def score_title(score: str) -> str:
    """What the changes of a score are called."""
    return f"Δ {COLUMNS[score]} to dense" if score in TO_DENSE else COLUMNS[score]


def sizes(categories: Sequence[str]) -> dict[str, int]:
    """Category → its prompts, in the order of the alphabet."""
    return dict(sorted(Counter(_told_apart(categories)).items()))


def of_category(rows: Sequence[Row], categories: Sequence[str], name: str) -> list[Row]:
    """The rows as if the prompts of one category had been measured alone; those of other prompts are left out."""
    places = [place for place, category in enumerate(_told_apart(categories)) if category == name]
    return [
        replace(row, scores={score: [values[place] for place in places] for score, values in row.scores.items()})
        for row in rows
        if row.prompts == len(categories)
    ]


def by_category(rows: Sequence[Row], categories: Sequence[str], score: str) -> list[CategoryLine]:
    """A line per recipe and level, in the order in which they first appear; none for what is no score of a prompt.

    Args:
        rows: of one experiment.
        categories: of its prompts, one each.
        score: one of `SCORES`.
    """
    if score not in SCORES or not any(categories):
        return []
    parts = {name: of_category(rows, categories, name) for name in sizes(categories)}
    found = []
    for line in tabulate(rows):
        if line.recipe == DENSE:
            continue
        cell = line.recipe, line.level
        changes = {name: change for name, part in parts.items() if (change := _change(part, score, cell))}
        found.append(CategoryLine(*cell, line.sparsity, score, changes, line.nbytes))
    return found


def markdown_by_category(lines: Sequence[CategoryLine], digits: int) -> str:
    """A Markdown table: a row per recipe and level, a column per category."""
    names = sorted({name for line in lines for name in line.changes})
    text = [f"| {score_title(lines[0].score)} | breaks first | " + " | ".join(names) + " |"]
    text.append("|---" * (len(names) + 2) + "|")
    for line in lines:
        cells = [f"{line.changes[name].mean:.{digits}f}" if name in line.changes else "–" for name in names]
        text.append(f"| {line.recipe} {line.level} | {line.worst or '–'} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def _told_apart(categories: Sequence[str]) -> list[str]:
    names = [name or NONE for name in categories]
    common = Counter(names).most_common()
    kept = {name for name, _ in (common if len(common) <= MOST else common[: MOST - 1])}
    return [name if name in kept else REST for name in names]


def _change(part: Sequence[Row], score: str, cell: tuple[str, str]) -> Difference | None:
    if score in TO_DENSE:
        return difference(part, score, cell, _DENSE_CELL)
    line = next((line for line in tabulate(part) if (line.recipe, line.level) == cell), None)
    figure = line.figures[score] if line else None
    return Difference(figure.mean, figure.spread, line.seeds) if figure else None
