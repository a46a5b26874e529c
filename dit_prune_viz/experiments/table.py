"""From rows to a table: means over prompts and seeds with their spread, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dit_prune_viz.experiments.results import SCORES, Row, mean_score, spread
from dit_prune_viz.figures.tradeoff import whiskers

COLUMNS = {
    "clip": "CLIP",
    "ssim": "SSIM",
    "psnr": "PSNR, dB",
    "latent_mse": "latent MSE",
    "damage": "predicted damage",
}
"""Scores of a cell, as people read them."""
WITH_DENSE_LEVEL = ("clip",)
"""Scores that the dense model has by itself; to the others it is what is compared with."""
_DIGITS = {"clip": 2, "ssim": 3, "psnr": 2, "latent_mse": 4, "damage": 4}


@dataclass(frozen=True)
class Figure:
    """mean: over prompts, then seeds; CLIP is cut off at 0 once, at the end. spread: sample standard deviation of the
    seeds' means before that; with one seed the standard error of its mean over the prompts, 0 for a single one. Either
    says how far another seed's mean may be expected to lie."""

    mean: float
    spread: float

    def text(self, digits: int) -> str:
        return f"{self.mean:.{digits}f} ± {self.spread:.{digits}f}" if self.spread else f"{self.mean:.{digits}f}"


@dataclass(frozen=True)
class Line:
    """One recipe at one level over its seeds.

    figures: score → Figure, or None where no picture has that score. seconds: to prune, calibration excluded.
    nbytes: of the transformers as they would be stored; None where that is not known. destroyed: whether no picture is
    left that a CLIP score could be of.
    """

    recipe: str
    level: str
    sparsity: float
    seeds: int
    prompts: int
    seconds: float
    figures: dict[str, Figure | None]
    nbytes: int | None = None
    destroyed: bool = False

    @property
    def spread_words(self) -> str:
        """What the spread of its figures is."""
        return whiskers(self.seeds)

    def text(self, score: str, digits: int) -> str:
        """A figure as people read it: a dash where there is none, "destroyed" for a CLIP score of no picture."""
        figure = self.figures[score]
        if figure is None:
            return "destroyed" if score == "clip" and self.destroyed else "–"
        return figure.text(digits)


@dataclass(frozen=True)
class Difference:
    """How far one recipe is ahead of another in a score, from the same prompts and noises.

    mean: between their means over prompts and seeds, as `Figure` has them. spread: sample standard deviation of the
    seeds' mean differences.
    """

    mean: float
    spread: float
    seeds: int


def tabulate(rows: Iterable[Row]) -> list[Line]:
    """A line per recipe and level, in the order in which they first appear.

    Of rows that carry one name but other settings, only those that were measured last count.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in _latest(rows):
        groups.setdefault((row.recipe, row.level), []).append(row)
    return [_line(group) for group in groups.values()]


def difference(rows: Sequence[Row], score: str, ours: tuple[str, str], theirs: tuple[str, str]) -> Difference | None:
    """The paired difference `ours` − `theirs`, each a (recipe, level), in one of `SCORES`; None without pairs."""
    one, other = (
        {row.seed: row.scores.get(score, []) for row in _latest(rows) if (row.recipe, row.level) == side}
        for side in (ours, theirs)
    )
    means = []
    for seed in sorted(one.keys() & other.keys()):
        pairs = [pair for pair in zip(one[seed], other[seed], strict=True) if None not in pair]
        if pairs:
            means.append([_average(side) for side in zip(*pairs, strict=True)])
    if not means:
        return None
    first, second = (mean_score(score, side) for side in zip(*means, strict=True))
    return Difference(first - second, spread([a - b for a, b in means]), len(means))


def markdown(lines: Sequence[Line], score: str) -> str:
    """A Markdown table of one score: a row per recipe, a column per level."""
    levels = list(dict.fromkeys(line.level for line in lines if line.recipe != "dense"))
    cells = {(line.recipe, line.level): line for line in lines}
    text = [f"| {COLUMNS[score]} | " + " | ".join(levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for recipe in dict.fromkeys(line.recipe for line in lines if line.recipe != "dense"):
        found = [cells.get((recipe, level)) for level in levels]
        shown = [line.text(score, _DIGITS[score]) if line else "–" for line in found]
        text.append(f"| {recipe} | " + " | ".join(shown) + " |")
    return "\n".join(text)


@dataclass(frozen=True)
class Unit:
    """In what sizes are shown: its name and its bytes."""

    name: str
    nbytes: float

    def of(self, nbytes: int | None) -> float | None:
        """A size in this unit."""
        return None if nbytes is None else nbytes / self.nbytes

    def text(self, nbytes: int | None) -> str:
        """The figure without its unit, or a dash."""
        if nbytes is None:
            return "–"
        return f"{nbytes / self.nbytes:.{1 if self.name == 'MB' else 2}f}"


def unit_of(lines: Sequence[Line]) -> Unit:
    """GB if any of the sizes is above one, else MB; powers of ten, as disks and downloads are sold."""
    most = max((line.nbytes or 0 for line in lines), default=0)
    return Unit("GB", 1e9) if most >= 1e9 else Unit("MB", 1e6)


def savings(lines: Sequence[Line]) -> str:
    """A Markdown table of what every cell saves and what it costs, the largest first; empty where no size is known."""
    known = sorted((line for line in lines if line.nbytes is not None), key=lambda line: -line.nbytes)
    dense = next((line.nbytes for line in known if line.recipe == "dense"), None)
    if not known:
        return ""
    scores, unit = [score for score in ("ssim", "clip") if any(line.figures[score] for line in known)], unit_of(known)
    text = [f"| stored | {unit.name} | smaller | " + " | ".join(COLUMNS[score] for score in scores) + " |"]
    text.append("|---" * (3 + len(scores)) + "|")
    for line in known:
        name = line.recipe if line.sparsity == 0 else f"{line.recipe} {line.level}"
        times = f"{dense / line.nbytes:.2f}×" if dense else "–"
        shown = [line.text(score, _DIGITS[score]) for score in scores]
        text.append("| " + " | ".join([name, unit.text(line.nbytes), times, *shown]) + " |")
    return "\n".join(text)


def _latest(rows: Iterable[Row]) -> list[Row]:
    """The rows without those of a recipe as it was earlier."""
    rows = list(rows)
    newest = {(row.recipe, row.level): row.digest for row in rows}
    return [row for row in rows if row.digest == newest[row.recipe, row.level]]


def _line(group: Sequence[Row]) -> Line:
    first = group[0]
    figures = {name: _figure(name, group) for name in SCORES}
    return Line(
        recipe=first.recipe,
        level=first.level,
        sparsity=first.sparsity,
        seeds=len(group),
        prompts=first.prompts,
        seconds=max(row.prune_seconds for row in group),
        figures=figures | {"damage": Figure(first.damage, 0.0)},
        nbytes=next((row.nbytes for row in group if row.nbytes is not None), None),
        destroyed=all(row.destroyed and all(row.destroyed) for row in group),
    )


def _figure(score: str, group: Sequence[Row]) -> Figure | None:
    if score == "clip" and all(row.mean(score) is None for row in group):
        return None
    seeds = [[value for value in row.scores.get(score, ()) if value is not None] for row in group]
    seeds = [values for values in seeds if values]
    if not seeds:
        return None
    means = [_average(values) for values in seeds]
    apart = spread(means) if len(group) > 1 else spread(seeds[0]) / len(seeds[0]) ** 0.5
    return Figure(mean_score(score, means), apart)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)
