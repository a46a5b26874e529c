"""Tables as CSV, in which no text is taken for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a text begins that spreadsheets compute (OWASP, "CSV Injection")."""


def csv_text(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table with a line of names.

    Names of models, layers, clusters and recipes come from files of other people. A text that a spreadsheet would
    compute begins with an apostrophe here, as OWASP advises. Numbers stay as they are.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(map(_plain, names))
    table.writerows(map(_plain, row) for row in rows)
    return text.getvalue()


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
