"""What "Which part does what?" found, to take away: one picture with captions, and the numbers in JSON's types."""

from __future__ import annotations

from typing import Any

from PIL import Image

import dit_prune_viz
from dit_prune_viz.app.formatting import known, score, signed, times
from dit_prune_viz.app.session.analyzer import MISLEADS, Finding, Findings, agreement, times_predicted
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.picture_grid import picture_grid
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT
from dit_prune_viz.metrics.destroyed import told
from dit_prune_viz.metrics.pictures import amplified_differences, fitting_gain

_DIGITS = 16
"""Of a fingerprint."""
_EXPLAINED = (
    "Error: measured, relative squared error of the transformer's output on inputs that the calibration has not seen. "
    "Predicted: share of output energy that goes, a mean over layers by their weights. The parts that changed the "
    "pictures most come first."
)


def values_of(findings: Findings) -> dict[str, Any]:
    """Scores, measured errors and predicted damages of all parts, in the order in which they were drawn.

    Raises:
        UserError: nothing is drawn yet.
    """
    first, model = _first(findings).comparison, findings.session.model
    agreed = agreement(findings.found)
    request = first.requests[0]
    return {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "mode": findings.mode,
        "sparsity": findings.sparsity,
        "prompts": [one.prompt for one in first.requests],
        "seed": request.seed,
        "steps": request.steps,
        "clip": first.clip_name,
        "dense": {"clip": list(map(known, first.left.clips)), "destroyed": list(first.left.destroyed)},
        "unread": [one.named for one in first.unread],
        "rank_correlation": agreed.rank,
        "error_per_damage": agreed.ratio,
        "parts": [_part_values(one, agreed.ratio) for one in findings.found],
    }


def _part_values(finding: Finding, ratio: float | None) -> dict[str, Any]:
    part, done = finding.part, finding.comparison
    return {
        "key": part.key,
        "name": part.name,
        "layers": list(part.layers),
        "removed": finding.removed,
        "clip": list(map(known, done.right.clips)),
        "destroyed": list(done.right.destroyed),
        "delta": known(done.delta),
        "ssim": done.ssim,
        "ssims": list(done.ssims),
        "error": finding.error,
        "damage": finding.damage,
        "times_predicted": times_predicted(finding, ratio),
    }


def sheet(findings: Findings) -> Image.Image:
    """A row for the dense pictures and one for every part, the greatest effect first, with differences and scores.

    Raises:
        UserError: nothing is drawn yet.
    """
    first = _first(findings).comparison
    ratio = agreement(findings.found).ratio
    ordered = sorted(findings.found, key=lambda one: one.comparison.ssim)
    gain = fitting_gain([change for one in ordered for change in one.comparison.differences])
    prompts = [request.prompt for request in first.requests]
    changed = "difference" if gain == 1 else f"difference × {gain}"
    pictures: list[list[Image.Image | None]] = [[one for image in first.left.images for one in (image, None)]]
    dense = zip(first.left.clips, first.left.destroyed, strict=True)
    notes = [[note for clip, what in dense for note in (told(what) or f"CLIP {score(clip, 1)}", "")]]
    for one in ordered:
        pairs = list(zip(first.left.images, one.comparison.right.images, strict=True))
        louder, _ = amplified_differences(pairs, gain)
        pictures.append([picture for pair in zip(one.comparison.right.images, louder, strict=True) for picture in pair])
        notes.append(_notes(one, ratio))
    rows = ["dense", *(one.drawn.name for one in ordered)]
    columns = [name for prompt in prompts for name in (prompt, changed)]
    return picture_grid(pictures, rows, columns, notes=notes, footer=_footer(findings))


def _notes(finding: Finding, ratio: float | None) -> list[str]:
    """Below the pictures their scores; below the first difference what is told of the part as a whole."""
    done, notes = finding.comparison, []
    for place, (clip, dense, ssim) in enumerate(zip(done.right.clips, done.left.clips, done.ssims, strict=True)):
        similar = told(done.right.destroyed[place]) or f"CLIP {score(clip, 1)} ({signed(clip - dense, 1)})"
        notes.append(f"{similar}\nSSIM {ssim:.3f}")
        notes.append("" if place else "\n".join(_told(finding, ratio)))
    return notes


def _told(finding: Finding, ratio: float | None) -> list[str]:
    lines = []
    if finding.error is not None:
        lines.append(f"error {100 * finding.error:.3g} %")
    if finding.damage is not None:
        lines.append(f"predicted {100 * finding.damage:.3g} %")
    factor = times_predicted(finding, ratio)
    if factor is not None and not 1 / MISLEADS < factor < MISLEADS:
        lines.append(f"{times(factor)} more" if factor > 1 else f"{times(1 / factor)} less")
    return lines


def _footer(findings: Findings) -> list[str]:
    first, model = findings.found[0].comparison, findings.session.model
    request = first.requests[0]
    many = "1 part" if len(findings.found) == 1 else f"{len(findings.found)} parts"
    facts = [
        f"Model: {model.name}, fingerprint {model.fingerprint[:_DIGITS]}. {many}, each {findings.how}. "
        f"Seed {request.seed}, {request.steps} steps, {request.width} × {request.height} pixels, from the same noise "
        "as the dense picture."
    ]
    agreed = agreement(findings.found)
    if agreed.rank is not None:
        facts.append(f"Rank correlation {agreed.rank:.2f} between predicted damage and measured error.")
    facts.append(
        f"CLIP: {first.clip_name}, {CLIP_UNIT} (difference to dense). SSIM: to the dense picture. {_EXPLAINED} "
        f"dit_prune_viz {dit_prune_viz.__version__}."
    )
    return facts


def _first(findings: Findings) -> Finding:
    if not findings.found:
        raise UserError("No part has been drawn yet; draw some first.")
    return findings.found[0]
