"""The trade-off by category of prompts: curves, and the table of what breaks first."""

from __future__ import annotations

from html import escape

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.tradeoff import (
    DIGITS,
    EMPTY,
    NO_SIZES,
    SIZE,
    SPARSITY,
    Measured,
    axis_of,
    curves,
    point_of,
)
from dit_prune_viz.experiments.categories import CategoryLine, by_category, of_category, score_title, sizes
from dit_prune_viz.experiments.table import tabulate, unit_of
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.style import message
from dit_prune_viz.figures.tradeoff import tradeoff

ALL = ""
_CATEGORY, _METHOD = "category:", "method:"


def choices(measured: Measured) -> list[tuple[str, str]]:
    """(words, value) of the ways to draw what was measured: methods on all prompts, methods on the prompts of one
    category, the categories of one method. The first alone where the prompts have no categories."""
    ways = [("recipes, all prompts", ALL)]
    if any(measured.categories):
        recipes = dict.fromkeys(row.recipe for row in measured.rows if row.recipe != "dense")
        ways += [(f"categories, {name}", _METHOD + name) for name in recipes]
        ways += [(f"recipes, {name} only", _CATEGORY + name) for name in sizes(measured.categories)]
    return ways


def curves_by(measured: Measured, score: str, by: object = ALL, over: str = SPARSITY) -> Figure:
    """The figure of one score over SPARSITY or SIZE, drawn as one of `choices` says; anything else draws the methods on
    all prompts."""
    by = by if isinstance(by, str) else ALL
    if any(measured.categories) and by.startswith(_CATEGORY):
        return curves(of_category(measured.rows, measured.categories, by.removeprefix(_CATEGORY)), score, over)
    if any(measured.categories) and by.startswith(_METHOD):
        return _of_method(measured, score, by.removeprefix(_METHOD), over)
    return curves(measured.rows, score, over, shipped=bool(measured.source))


def category_table(measured: Measured, score: str) -> str:
    """What every method at every sparsity loses in every category, as HTML; empty without categories."""
    lines = [line for line in by_category(measured.rows, measured.categories, score) if line.changes]
    if not lines:
        return ""
    counts = sizes(measured.categories)
    heads = ("recipe", "sparsity", "breaks first", *(f"{name} ({count:,})" for name, count in counts.items()))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{_cells(line, list(counts))}</tr>" for line in lines)
    caption = f"{score_title(score)} by category of the prompts (how many of each); bold: what breaks first."
    return formatting.wide_table(
        f'<table class="clusters tradeoff by-category"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        "Scores by category",
    )


def _cells(line: CategoryLine, names: list[str]) -> str:
    cells = [("sparsity", line.level), ("breaks first", line.worst or "–")]
    cells += [(name, _figure(line, name)) for name in names]
    body = ""
    for label, text in cells:
        shown = f"<strong>{escape(text)}</strong>" if label == line.worst else escape(text)
        body += f'<td data-label="{escape(label)}">{shown}</td>'
    return f'<th scope="row">{escape(line.recipe)}</th>{body}'


def _figure(line: CategoryLine, name: str) -> str:
    change = line.changes.get(name)
    if change is None:
        return "–"
    digits = DIGITS[line.score]
    shown = formatting.signed(change.mean, digits) if "Δ" in score_title(line.score) else f"{change.mean:.{digits}f}"
    return f"{shown} ± {change.spread:.{digits}f}" if change.spread else shown


def _of_method(measured: Measured, score: str, name: str, over: str) -> Figure:
    lines = [line for line in by_category(measured.rows, measured.categories, score) if line.recipe == name]
    if over == SIZE:
        lines = [line for line in lines if line.nbytes is not None]
        if not lines:
            return message(NO_SIZES)
    every = tabulate(measured.rows)
    unit = unit_of(every)
    points = {
        escape(category): [
            point_of(line, line.changes[category], over, unit) for line in lines if category in line.changes
        ]
        for category in sizes(measured.categories)
    }
    points = {category: own for category, own in points.items() if own}
    if not points:
        return message(EMPTY)
    return tradeoff(
        points, title=score_title(score), note=f"{escape(name)}, by category of the prompts", **axis_of(every, over)
    )
