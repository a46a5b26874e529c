"""Numbers as people read them, and those of reports, which may be estimates."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from dit_prune_viz.formatting import count, counted, known, percent, score, seconds, signed, size

if TYPE_CHECKING:
    from dit_prune_viz.pruning.report import LayerReport, PlanReport

__all__ = [
    "count",
    "counted",
    "damage",
    "known",
    "markdown",
    "percent",
    "score",
    "seconds",
    "signed",
    "size",
    "times",
    "wide_table",
]


def damage(report: LayerReport | PlanReport) -> str:
    """Predicted damage, marked where it was estimated."""
    return f"{'≈ ' if report.estimated else ''}{percent(report.damage)}"


def markdown(text: str) -> str:
    """A text that may hold anything, as Markdown that shows it letter by letter."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def times(factor: float) -> str:
    """2.4 times, 1,250 times."""
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def wide_table(table: str, name: str) -> str:
    """A table, as HTML, that scrolls by itself on narrow pages; `name` is what screen readers call it."""
    return f'<div class="wide-table" tabindex="0" role="region" aria-label="{escape(name)}">{table}</div>'
