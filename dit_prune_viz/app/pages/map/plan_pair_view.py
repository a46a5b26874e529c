"""Two plans in figures: maps whose colours mean the same, both plans' numbers, and the layers that differ most."""

from __future__ import annotations

from html import escape

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.map import view
from dit_prune_viz.app.session.drawn_model import name_of_session
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.pruning.report import LayerReport, PlanReport

COMPARED = ("damage", "sparsity", "g_out")
CHOICES = [(view.STATISTICS[key].label, key) for key in COMPARED]
MOST = 8
"""Layers named in the table, those first whose masks differ most."""


def maps(first: Session, second: Session, key: str) -> list:
    """A heat map of each session, with colours that mean the same in both."""
    values = [*view.values_of(first, key), *view.values_of(second, key)]
    if view.STATISTICS[key].log:
        values = [value for value in values if value > 0]
    limits = (min(values), max(values)) if values and min(values) < max(values) else None
    label = view.STATISTICS[key].label
    return [
        view.heat_figure(session, key, title=f"{name} · {label}", limits=limits)
        for name, session in (("A", first), ("B, this plan", second))
    ]


def describe(first: Session, second: Session) -> str:
    """Both plans in figures, and the layers whose masks differ most, as HTML. Both are of one model, and pruned."""
    known = all(len(session.pruned.layers.made) == len(session.masks) for session in (first, second))
    differing = {name: mask.differing(second.masks[name]) for name, mask in first.masks.items()} if known else {}
    changed = sum(differing.values())
    facts = [
        ("recipe", *(escape(name_of_session(session)) for session in (first, second))),
        ("sparsity", *(_sparsity(session.report) for session in (first, second))),
        ("remaining parameters", *(f"{session.report.remaining:,}" for session in (first, second))),
        ("predicted damage", *(formatting.damage(session.report) for session in (first, second))),
        ("layers ranked row by row", *(str(_by_row(session)) for session in (first, second))),
    ]
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>' for name, a, b in facts)
    head = '<thead><tr><th scope="col"></th><th scope="col">A</th><th scope="col">B, this plan</th></tr></thead>'
    layers = sum(count > 0 for count in differing.values())
    sentence = (
        "the masks are compared once images have been drawn with both plans."
        if not known
        else "both plans prune the same weights."
        if not changed
        else f"the masks differ in {changed:,} weights ({formatting.percent(changed / first.report.weights)}) of "
        f"{layers} layer{'' if layers == 1 else 's'}."
    )
    searched = first.recipe.search or second.recipe.search
    sentence = f"Before masks are refined, {sentence}" if searched else sentence[0].upper() + sentence[1:]
    return (
        f'<table class="scores">{head}<tbody>{rows}</tbody></table><p class="note" role="status">{sentence}</p>'
        f"{_changes(first, second, differing)}"
    )


def _changes(first: Session, second: Session, differing: dict[str, int]) -> str:
    """The layers that differ most, each with both its sparsities and damages."""
    most = sorted((name for name, count in differing.items() if count), key=lambda name: -differing[name])[:MOST]
    if not most:
        return ""
    reports = [{layer.name: layer for layer in session.report.layers} for session in (first, second)]
    heads = ("layer", "weights that differ", "sparsity A", "sparsity B", "damage A", "damage B")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = []
    for name in most:
        a, b = (report[name] for report in reports)
        cells = (
            f"{differing[name]:,} ({formatting.percent(differing[name] / a.weights)})",
            _sparsity(a),
            _sparsity(b),
            formatting.damage(a),
            formatting.damage(b),
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _sparsity(report: LayerReport | PlanReport) -> str:
    """The share, and on hover the exact count, as HTML."""
    share = report.achieved if isinstance(report, PlanReport) else report.sparsity
    exact = f"{report.removed:,} of {report.weights:,} weights are pruned"
    return f'<span title="{exact}">{formatting.percent(share)}</span>'


def _by_row(session: Session) -> int:
    return sum(layer.granularity == "row" for layer in session.report.layers)
