"""Tables as CSV: what is read again is what was written, and no spreadsheet computes a name."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.csv_text import csv_text
from dit_prune_viz.experiments.export import as_csv
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.export.numbers import units_csv

HOSTILE = '=HYPERLINK("https://example.com/"&A1)'
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.tuples(TEXT, st.integers(), st.floats(allow_nan=False))))
def test_a_table_is_read_again_but_for_formulas(rows):
    names, *lines = read(csv_text(("name", "count", "score"), rows))
    assert names == ["name", "count", "score"]
    for line, (text, count, score) in zip(lines, rows, strict=True):
        assert line[0] == ("'" if text[:1] in list("=+-@\t\n") else "") + text
        assert (int(line[1]), float(line[2])) == (count, score)


@pytest.mark.parametrize("begin", list("=+-@\t\r"))
def test_a_text_that_would_be_computed_is_text(begin):
    assert csv_text(("a", "b"), [[f"{begin}1+1", -1]]).splitlines()[0] == "a,b"
    assert csv_text((f"{begin}a",), []).lstrip('"').startswith("'")
    assert read(csv_text(("a", "b"), [["", None], [f"{begin}1", -1.5]]))[2][0].startswith("'")
    assert read(csv_text(("a", "b"), [["x", -1.5]]))[1] == ["x", "-1.5"]


def test_names_in_tables_of_layers_and_experiments_are_text():
    assert read(units_csv(HOSTILE, (4, 4), "row", [1]))[1][0] == f"'{HOSTILE}"
    row = Row("0a", HOSTILE, "1b", "50 %", sparsity=0.5, seed=0, damage=0.1, prune_seconds=1, seconds=2)
    assert read(as_csv([row]))[1][0] == f"'{HOSTILE}"
