"""What breaks first: scores by category of the prompts, against averages by hand."""

from __future__ import annotations

import pytest

from dit_prune_viz.app.session.tradeoff import Measured
from dit_prune_viz.app.session.tradeoff_categories import ALL, category_table, choices, curves_by
from dit_prune_viz.experiments.categories import (
    MOST,
    REST,
    by_category,
    markdown_by_category,
    of_category,
    sizes,
)
from dit_prune_viz.experiments.results import Row

CATEGORIES = ("food", "people", "food", "")


def row(recipe, level, sparsity, seed, **scores):
    return Row("e", recipe, recipe, level, sparsity, seed, 0.1, 2.0, 3.0, scores)


ONES, NONES = [1.0] * 4, [None] * 4
DECIBELS = [20.0, 30.0, 22.0, 9.0]
ROWS = (
    row("dense", "0 %", 0.0, 0, clip=[20.0, 30.0, 24.0, 10.0], ssim=ONES, psnr=NONES),
    row("dense", "0 %", 0.0, 1, clip=[22.0, 30.0, 24.0, 10.0], ssim=ONES, psnr=NONES),
    row("wanda", "50 %", 0.5, 0, clip=[19.0, 20.0, 23.0, 11.0], ssim=[0.8, 0.9, 0.6, 0.5], psnr=DECIBELS),
    row("wanda", "50 %", 0.5, 1, clip=[18.0, 24.0, 22.0, 13.0], ssim=[0.7, 0.9, 0.5, 0.5], psnr=DECIBELS),
)


def test_changes_to_dense_by_hand():
    (line,) = by_category(ROWS, CATEGORIES, "clip")
    assert (line.recipe, line.level, line.sparsity) == ("wanda", "50 %", 0.5)
    means = {name: change.mean for name, change in line.changes.items()}
    # food: (19+23+18+22)/4 − (20+24+22+24)/4; people: (20+24)/2 − 30; without one: 12 − 10
    assert means == pytest.approx({"food": -2.0, "no category": 2.0, "people": -8.0})
    assert line.changes["people"].spread == pytest.approx(8**0.5)  # of −10 and −6
    assert line.worst == "people"


def test_each_score_has_its_own_worst_category():
    (line,) = by_category(ROWS, CATEGORIES, "ssim")
    assert {name: round(change.mean, 6) for name, change in line.changes.items()} == {
        "food": -0.35,
        "no category": -0.5,
        "people": -0.1,
    }
    assert line.worst == "no category"
    (line,) = by_category(ROWS, CATEGORIES, "psnr")  # to dense it would be infinite, so it is the mean itself
    assert line.changes["food"].mean == pytest.approx(21)
    assert line.worst == "no category"
    errors = [
        row("dense", "0 %", 0.0, 0, latent_mse=[0.0, 0.0]),
        row("ria", "50 %", 0.5, 0, latent_mse=[0.1, 0.3]),
    ]
    assert by_category(errors, ("a", "b"), "latent_mse")[0].worst == "b"


def test_nothing_is_told_without_categories():
    assert by_category(ROWS, (), "clip") == by_category(ROWS, ("", "", "", ""), "clip") == []
    assert by_category(ROWS, CATEGORIES, "damage") == []
    assert by_category(ROWS, CATEGORIES[:3], "clip")[0].changes == {}  # of other prompts
    alone = by_category(ROWS, ("x",) * 4, "ssim")[0]
    assert alone.worst is None


def test_rows_of_one_category():
    assert sizes(CATEGORIES) == {"food": 2, "no category": 1, "people": 1}
    found = of_category(ROWS, CATEGORIES, "food")
    assert [each.scores["clip"] for each in found] == [[20.0, 24.0], [22.0, 24.0], [19.0, 23.0], [18.0, 22.0]]
    assert ROWS[0].scores["clip"] == [20.0, 30.0, 24.0, 10.0]


def test_rare_categories_are_one_together():
    names = ["a", *("b" for _ in range(3)), *(f"c{place}" for place in range(MOST)), "b"]
    found = sizes(names)
    assert len(found) == MOST
    assert (found["b"], sum(found.values())) == (4, len(names))
    assert found[REST] == len(names) - 4 - (MOST - 2)
    rows = [row("wanda", "50 %", 0.5, 0, ssim=[0.5] * len(names))]
    assert len(of_category(rows, names, REST)[0].scores["ssim"]) == found[REST]


def test_a_table_for_the_terminal():
    text = markdown_by_category(by_category(ROWS, CATEGORIES, "clip"), 2)
    assert text.splitlines() == [
        "| Δ CLIP to dense | breaks first | food | no category | people |",
        "|---|---|---|---|---|",
        "| wanda 50 % | people | -2.00 | 2.00 | -8.00 |",
    ]


def test_what_the_page_shows_of_categories():
    measured = Measured(ROWS, categories=CATEGORIES)
    ways = dict(choices(measured))
    assert list(ways) == [
        "recipes, all prompts",
        "categories, wanda",
        "recipes, food only",
        "recipes, no category only",
        "recipes, people only",
    ]
    assert dict(choices(Measured(ROWS))) == {"recipes, all prompts": ALL}
    figure = curves_by(measured, "clip", ways["categories, wanda"])
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "food": [pytest.approx(-2)],
        "no category": [pytest.approx(2)],
        "people": [pytest.approx(-8)],
    }
    figure = curves_by(measured, "ssim", ways["recipes, people only"])
    assert {trace.name: list(trace.y) for trace in figure.data} == {"wanda": [pytest.approx(0.9)]}
    for odd in (None, 3, "method:nobody", "category:none"):
        assert curves_by(measured, "ssim", odd) is not None
    assert list(curves_by(measured, "ssim", "x").data[0].y) == [pytest.approx(0.675)]
    table = category_table(measured, "clip")
    assert "<strong>−8.00 ± 2.83</strong>" in table
    assert "people (1)" in table
    assert category_table(Measured(ROWS), "clip") == category_table(measured, "damage") == ""


def test_names_of_categories_are_not_html():
    measured = Measured(ROWS, categories=("<b>", "<b>", "x", "x"))
    assert "<b>" not in category_table(measured, "clip")
