"""The page of a report: content in, the text of one HTML file out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.report_parts.content import Drawing, Pair, ReportContent
from dit_prune_viz.export.report_parts.drawings import SCORES
from dit_prune_viz.export.report_parts.pairs import bounded, media_type
from dit_prune_viz.figures import style
from dit_prune_viz.figures.library import PLOTLY_JS
from dit_prune_viz.formatting import count, percent, size
from dit_prune_viz.pipelines.kinds import KINDS

LIMIT = 8_000_000
"""Bytes of a report at most."""
MOST_ROWS = 2_000
"""Layers in the table."""
MOST_LINES = 500
"""Lines in the table of a trade-off."""
MOST_RECIPE = 600_000
"""Characters of a recipe that go into the report; labels of single weights would fill it."""
_PICTURES, _FIGURES = 1_800_000, 2_000_000
"""Bytes of all pictures, and of all figures but those of single layers, at most."""
_ORIGINS = {"kmeans": "found by k-means", "gmm": "found by a Gaussian mixture", "hdbscan": "found by HDBSCAN"}
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Row:
    """A layer of the table."""

    name: str
    block: int
    place: str
    kind: str
    shape: tuple[int, int]
    weights: int
    removed: int
    granularity: str
    g_out: float
    sparsity: float
    damage: float
    estimated: bool


def render(content: ReportContent) -> str:
    """The whole file. Everything that a person has given is shown as text, whatever it is.

    Raises:
        UserError: pictures that no browser shows, or figures and tables too large for any report.
    """
    for generosity in (1.0, 0.5, 0.1, 0.0):  # one is enough unless something is larger than it ever should be
        text = _render(content, generosity)
        if len(text.encode("utf-8", "replace")) < LIMIT:
            return text
    raise UserError(f"This report would have more than {size(LIMIT)}; leave some of its figures out.")


def _render(content: ReportContent, generosity: float) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "size": size,
        "number": _number,
        "fixed": _fixed,
    }
    environment.globals |= {"glyph": style.glyph, "colour": style.colour, "finite": math.isfinite, "origins": _ORIGINS}
    plotly, plotly_digest = _plotly()
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    sheet = (_HERE / "report.css").read_text(encoding="utf-8")
    rows = _rows(content)
    recipe = content.recipe.text if len(content.recipe.text) <= MOST_RECIPE else ""
    figures = _Figures(_FIGURES * generosity)
    maps, scatters, curves = (
        figures.add_all(some)
        for some in (content.maps, content.scatters, content.tradeoff.drawings if content.tradeoff else ())
    )
    used = sum(map(len, (plotly, script, sheet, recipe))) + figures.size + 600 * len(rows) + 200_000
    room = generosity * max(0, LIMIT - used)
    pairs, smaller = bounded(content.pairs, int(min(_PICTURES, 0.4 * room))) if generosity else ((), 0)
    figures.room = room - 4 / 3 * sum(len(pair.dense) + len(pair.pruned) for pair in pairs)
    figures.add_all([layer.drawing for layer in content.tuned if layer.drawing])
    lines = content.tradeoff.lines[:MOST_LINES] if content.tradeoff else ()
    notes = [*content.notes, *_thinned(content, rows, figures, pairs, smaller)]
    return environment.get_template("report.html").render(
        content=content,
        rows=rows,
        kinds=sorted({row.kind for row in rows}, key=KINDS.index),
        figures=figures,
        maps=maps,
        scatters=scatters,
        curves=curves,
        pairs=[_picture(pair) for pair in pairs],
        recipe=recipe,
        notes=notes,
        lines=lines,
        scores={key: score for key, score in SCORES.items() if any(line.figures.get(key) for line in lines)},
        map_height=150 + 27 * len({layer.kind for layer in content.layers}),
        policy=_policy(plotly_digest, _digest(script)),
        plotly=plotly,
        script=script,
        sheet=sheet,
    )


class _Figures:
    """The drawings of a page, each under an id of its own, as long as there is room for another one."""

    def __init__(self, room: float) -> None:
        self._ids: dict[str, str] = {}
        self.blocks: list[tuple[str, str]] = []
        self.size, self.room = 0, room

    def add_all(self, drawings: Sequence[Drawing]) -> list[Drawing]:
        """Put drawings on the page; returns those that found room."""
        return [drawing for drawing in drawings if self._add(drawing)]

    def _add(self, drawing: Drawing) -> bool:
        # Inside a script element nothing but "</script" and "<!--" has a meaning, and neither is left.
        text = drawing.figure.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        if len(text) > self.room:
            return False
        self._ids[drawing.key] = f"figure-{len(self.blocks)}"
        self.blocks.append((self._ids[drawing.key], text))
        self.size, self.room = self.size + len(text), self.room - len(text)
        return True

    def id(self, drawing: Drawing) -> str:
        """Under which it can be found."""
        return self._ids[drawing.key]

    def __contains__(self, drawing: object) -> bool:
        return isinstance(drawing, Drawing) and drawing.key in self._ids


def _rows(content: ReportContent) -> list[_Row]:
    """The layers, of very many those that cost the most, in the model's order."""
    reports = {one.name: one for one in content.report.layers}
    layers = [layer for layer in content.layers if layer.name in reports]
    if len(layers) > MOST_ROWS:
        damages = np.nan_to_num([reports[layer.name].damage * layer.weights for layer in layers])
        layers = [layers[place] for place in sorted(np.argsort(-damages, kind="stable")[:MOST_ROWS])]
    return [
        _Row(
            layer.name,
            layer.block,
            layer.place,
            layer.kind,
            layer.shape,
            one.weights,
            one.removed,
            one.granularity,
            one.g_out,
            one.sparsity,
            one.damage,
            one.estimated,
        )
        for layer in layers
        for one in (reports[layer.name],)
    ]


def _thinned(
    content: ReportContent, rows: Sequence[_Row], figures: _Figures, pairs: Sequence[Pair], smaller: int
) -> list[str]:
    """What of the content is not on the page as it is."""
    notes = []
    if len(rows) < len(content.report.layers):
        notes.append(
            f"The table lists the {len(rows):,} of {len(content.report.layers):,} layers whose damage weighs the most."
        )
    curves = content.tradeoff.drawings if content.tradeoff else ()
    units = [layer.drawing for layer in content.tuned if layer.drawing]
    missing = [one for one in (*content.maps, *content.scatters, *curves, *units) if one not in figures]
    if missing:
        labels = ", ".join(one.label for one in missing)
        notes.append(f"The file would be too large with all figures, so these are left out: {labels}.")
    if len(pairs) < len(content.pairs):
        notes.append(f"{len(pairs)} of {len(content.pairs)} pairs of pictures are shown.")
    if smaller:
        words = "All pictures are" if smaller == len(pairs) else f"The pictures of {smaller} of {len(pairs)} pairs are"
        notes.append(f"{words} shown as WebP, large ones reduced; scores are of the pictures as they were drawn.")
    if content.tradeoff and len(content.tradeoff.lines) > MOST_LINES:
        notes.append(f"The table of the trade-off lists {MOST_LINES} of {len(content.tradeoff.lines):,} lines.")
    return notes


def _picture(pair: Pair) -> dict[str, object]:
    def address(picture: bytes) -> str:
        return f"data:{media_type(picture)};base64,{base64.b64encode(picture).decode()}"

    return {"pair": pair, "dense": address(pair.dense), "pruned": address(pair.pruned)}


@cache
def _plotly() -> tuple[str, str]:
    """plotly.min.js, compressed to a third of its size, in base64; and the digest by which its text may run."""
    text = PLOTLY_JS.read_bytes()
    return base64.b64encode(gzip.compress(text, mtime=0)).decode(), _digest(text.decode())


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _policy(*digests: str) -> str:
    """A content security policy that lets the scripts with these digests run and forbids every request."""
    return (
        f"default-src 'none'; script-src {' '.join(digests)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _number(value: float, digits: int = 3) -> str:
    """A number for people; a dash for none."""
    return f"{value:,.{digits}g}" if value is not None and math.isfinite(value) else "–"
