"""Numbers as people read them, and those of reports, which may be estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dit_prune_viz.formatting import count, counted, percent, seconds, signed, size

if TYPE_CHECKING:
    from dit_prune_viz.pruning.report import LayerReport, PlanReport

__all__ = ["count", "counted", "damage", "percent", "seconds", "signed", "size"]


def damage(report: LayerReport | PlanReport) -> str:
    """Predicted damage, marked where it was estimated."""
    return f"{'≈ ' if report.estimated else ''}{percent(report.damage, 2)}"
