"""What is said and drawn of a grid of parts as a whole: predicted damage beside measured error."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.analyzer import Agreement, Finding, agreement
from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.part_scatter import part_scatter
from dit_prune_viz.figures.style import message

NOT_MEASURED = "Tick the box above to see predicted damage beside the measured error."
_SHOWN = 3


def compared(findings: Sequence[Finding]) -> tuple[Figure, str]:
    """The scatter, and where the prediction misleads in words."""
    known = [one for one in findings if one.damage is not None and one.error is not None]
    if not known:
        return message(NOT_MEASURED), ""
    found = agreement(known)
    misleading = [escape(name) for name, _ in (*found.worse, *found.better)]
    figure = part_scatter(
        [escape(one.part.name) for one in known],
        [one.damage for one in known],
        [one.error for one in known],
        misleading=misleading,
        ratio=found.ratio,
    )
    return figure, _words(found, len(known))


def _words(found: Agreement, parts: int) -> str:
    if parts < 2:
        return ""
    lines = []
    if found.rank is not None:
        rank = f"{found.rank:.2f}".replace("-", "−")
        lines.append(f"<b>Rank correlation {rank}</b> between predicted damage and measured error, over {parts} parts.")
    if found.worse:
        lines.append(f"<b>Costs more than predicted:</b> {_named(found.worse, 'more')}.")
    if found.better:
        lines.append(f"<b>Costs less than predicted:</b> {_named(found.better, 'less')}.")
    if not found.worse and not found.better:
        lines.append("No part's error is out of line with its predicted damage by a factor of three or more.")
    lines.append(
        "Predicted damage looks at one layer at a time. It does not know what later layers, gates and residual "
        "connections make of an error. The measured error is of single calls of the transformer, not of finished "
        "pictures."
    )
    return "".join(f'<p class="note">{line}</p>' for line in lines)


def _named(factors: Sequence[tuple[str, float]], word: str) -> str:
    named = [
        f"{escape(name)} ({formatting.times(factor)} {word} than its prediction says)"
        for name, factor in factors[:_SHOWN]
    ]
    rest = len(factors) - _SHOWN
    return ", ".join(named) + (f" and {rest} more" if rest > 0 else "")
