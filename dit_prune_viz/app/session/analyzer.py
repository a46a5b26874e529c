"""Which part of a model does what: each part is pruned alone, or kept alone, and the pictures are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dit_prune_viz.app.session.comparison import draw_side, keep_side, kept_side
from dit_prune_viz.app.session.comparison_result import LEFT, RIGHT, Comparison, Side, measure
from dit_prune_viz.app.session.drawn_model import DENSE, ONLY, WITHOUT, DrawnModel, of_part
from dit_prune_viz.app.session.parts import Part
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.unread import Unread, find_unread
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.sensitivity.measure import OutputError
from dit_prune_viz.sensitivity.stored import place_of

INPUTS = 8
"""Held-out inputs on which the output error is measured, as many as for the sensitivity of single layers."""
MISLEADS = 3.0
"""A part misleads if its error per predicted damage is so many times that of the others, or so many times less."""
MAX_PARTS = 200


@dataclass(frozen=True, eq=False)
class Finding:
    """What became of the pictures without a part, or with it alone.

    Attributes:
        part: of the model.
        drawn: what the pictures were drawn with.
        comparison: of the dense pictures on the left and those; its differences are not amplified.
        removed: how many weights were pruned.
        damage: predicted: of every layer in `part.among` the share of its output energy that is pruned, averaged by
            their numbers of weights, as `PlanReport.damage` is; None before the model is calibrated.
        error: measured: relative squared error of the transformer's output on held-out inputs; None where it was not.
    """

    part: Part
    drawn: DrawnModel
    comparison: Comparison
    removed: int
    damage: float | None = None
    error: float | None = None


@dataclass(eq=False)
class Findings:
    """What a page has found last; it changes in place, as `Runs` does.

    number: counted up with every analysis. session: the snapshot it was made in. mode, sparsity: what was asked for.
    total: how many findings there are to be. done: whether no more are coming.
    """

    number: int = 0
    session: Session | None = None
    mode: str = WITHOUT
    sparsity: float = 1.0
    total: int = 0
    done: bool = True
    found: list[Finding] = field(default_factory=list)

    @property
    def how(self) -> str:
        """What was done to every part: "removed alone", "with 50 % of it pruned"."""
        if self.sparsity == 1:
            return "kept alone" if self.mode == ONLY else "removed alone"
        return f"with {100 * self.sparsity:.4g} % of {'everything else' if self.mode == ONLY else 'it'} pruned"

    def begin(self, session: Session, mode: str, sparsity: float, total: int) -> None:
        """Forget what was found before."""
        self.number += 1
        self.session, self.mode, self.sparsity = session, mode, sparsity
        self.total, self.done, self.found = total, False, []

    def follow(self, session: Session | None) -> bool:
        """Forget what was found of another model, which would stay in memory with it; whether there was any."""
        model = session.model if session else None
        if self.session is None or self.session.model is model:
            return False
        self.number += 1
        self.session, self.total, self.done, self.found = None, 0, True, []
        return True


def find_all(
    session: Session, parts: Sequence[Part], requests: tuple[Request, ...], *, mode: str, sparsity: float, **more
) -> Findings:
    """`analyze`, with all that it found together."""
    findings = Findings()
    found = analyze(session, parts, requests, mode=mode, sparsity=sparsity, **more)
    findings.begin(session, mode, sparsity, len(parts))
    findings.found.extend(found)
    findings.done = True
    return findings


def analyze(
    session: Session,
    parts: Sequence[Part],
    requests: tuple[Request, ...],
    *,
    mode: str = WITHOUT,
    sparsity: float = 1.0,
    measured: bool = True,
    emit: Callable[[Finding], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Draw checked requests dense, and once for every part from the same noise.

    Other work on the model gets its turn between two parts. Pictures and errors are kept by content, so that an
    analysis that was cancelled goes on where it stopped.

    Args:
        session: with a model; for sparsities below 1 with a plan, whose saliencies rank the weights.
        parts: of its model, in the order in which they are drawn.
        requests: as from `check_prompts`.
        mode: see `of_part`.
        sparsity: see `of_part`.
        measured: whether the transformer's output error is measured too, where the model is calibrated.
        emit: gets every finding as it is known.
        progress: called at every step; may raise `Cancelled`.

    Raises:
        UserError: no part, or too many; and as in `of_part`, before anything is drawn.
    """
    if not parts:
        raise UserError("There is no part to draw; choose at least one.")
    if len(parts) > MAX_PARTS:
        raise UserError(f"There are {len(parts)} parts; choose at most {MAX_PARTS} of them.")
    of_part(session, parts[0], mode, sparsity)  # a bad mode or sparsity is told before anything is drawn
    run = _Run(session, requests, len(parts), progress)
    dense = run.dense()
    output = None
    if measured and session.statistics is not None:
        output = OutputError(session.statistics.reporting(run.waiting), INPUTS)
    found = []
    try:
        for part in parts:
            found.append(run.find(part, of_part(session, part, mode, sparsity), dense, output))
            if emit:
                emit(found[-1])
    finally:
        if output is not None:
            output.keep()
    return tuple(found)


class _Run:
    """The work of one analysis, and its progress: a picture's steps for every part and for the dense model."""

    def __init__(self, session: Session, requests: tuple[Request, ...], parts: int, progress: Progress | None) -> None:
        self._session, self._requests, self._progress = session, requests, progress
        self._steps, self._pictures, self._drawn = requests[0].steps, parts + 1, 0
        self._clip: ClipScorer = session.store.clip()
        self._told = (0, "Drawing the dense picture")
        self._unread: tuple[Unread, ...] = ()

    def dense(self) -> Side:
        """The dense pictures, which comparisons share."""
        with self._session.model.lock.hold(self.waiting):
            side = kept_side(self._session, DENSE, self._requests)
            if side is None:
                side = self._draw(LEFT, DENSE)
                keep_side(self._session, DENSE, self._requests, side)
            prompts = [request.prompt for request in self._requests]
            self._unread = find_unread(self._session.model, prompts, self._clip)
        self._drawn += 1
        return side

    def find(self, part: Part, drawn: DrawnModel, dense: Side, output: OutputError | None) -> Finding:
        begin = time.perf_counter()
        masks = {name: layer.mask for name, layer in drawn.layers.items()}
        cache, key = self._session.model.cache, ("part", self._requests, self._clip.name, *place_of(masks))
        with self._session.model.lock.hold(self.waiting):
            side = cache.find(key)
            if side is None:
                side = self._draw(RIGHT, drawn, previews=0)
                cache.put(key, side)
            side = replace(side, name=drawn.name)
            error = None if output is None else output.of(masks)
        self._drawn += 1
        done = measure(dense, side, self._requests, self._clip.name, time.perf_counter() - begin, gain=1)
        done = replace(done, unread=self._unread)
        removed = sum(mask.removed for mask in masks.values())
        return Finding(part, drawn, done, removed, predicted_damage(self._session, part, drawn), error)

    def waiting(self, *_: object) -> None:
        """Whoever waits or measures in between does not move the bar, but finds out whether it is cancelled."""
        self._tell(*self._told)

    def _draw(self, side: str, drawn: DrawnModel, **previews: int) -> Side:
        return draw_side(side, self._session, drawn, self._requests, self._clip, None, self._step, **previews)

    def _step(self, step: int, name: str) -> None:
        what = f"{name[:1].upper()}{name[1:]}: picture {self._drawn + 1} of {self._pictures}"
        self._tell(self._drawn * self._steps + step, what)

    def _tell(self, done: int, what: str) -> None:
        self._told = done, what
        if self._progress:
            self._progress(done, self._pictures * self._steps, what)


def predicted_damage(session: Session, part: Part, drawn: DrawnModel) -> float | None:
    """See `Finding.damage`."""
    if session.statistics is None:
        return None
    model = session.model

    def share(name: str, mask: PackedMask) -> float:
        weight = model.weight(name)
        return damage(weight, session.mean_square(name), mask.to(weight.device).unpack())

    # Where parts are kept alone, most layers are the same from one part to the next.
    basis = "damage", session.calibration.key, session.recipe.centred
    lost = 0.0
    for name, layer in drawn.layers.items():
        key = (*basis, name, layer.mask.digest)
        lost += model.cache.get(key, lambda name=name, mask=layer.mask: share(name, mask)) * layer.mask.weights
    return lost / sum(model.layer(name).weights for name in part.among)


def times_predicted(finding: Finding, ratio: float | None) -> float | None:
    """How many times the error of a part is what its predicted damage tells; None where either is not known.

    Args:
        finding: of the part.
        ratio: as in `Agreement`.
    """
    return finding.error / finding.damage / ratio if finding.error and finding.damage and ratio else None


@dataclass(frozen=True)
class Agreement:
    """How well predicted damage tells the measured error of some parts.

    Attributes:
        rank: Spearman's rank correlation; None for fewer than three parts, or where either side is the same for all.
        ratio: the median of error per predicted damage; None where nothing has both.
        worse: (name, factor) of the parts that cost much more than predicted beside the others, the worst first.
        better: the same for those that cost much less; the factor says how many times less.
    """

    rank: float | None
    ratio: float | None
    worse: tuple[tuple[str, float], ...] = ()
    better: tuple[tuple[str, float], ...] = ()


def agreement(findings: Sequence[Finding]) -> Agreement:
    """Where predicted damage misleads: the parts whose error per predicted damage is far from the median's."""
    from scipy.stats import spearmanr  # takes longer to import than the first page may

    known = [one for one in findings if one.damage and one.error]
    if not known:
        return Agreement(None, None)
    predicted, measured = (np.array([getattr(one, field) for one in known]) for field in ("damage", "error"))
    varied = len(known) > 2 and len(set(predicted)) > 1 and len(set(measured)) > 1
    rank = float(spearmanr(predicted, measured).statistic) if varied else None
    ratio = float(np.median(measured / predicted))
    factors = sorted(((one.part.name, times_predicted(one, ratio)) for one in known), key=lambda pair: pair[1])
    worse = tuple((name, factor) for name, factor in reversed(factors) if factor >= MISLEADS)
    better = tuple((name, 1 / factor) for name, factor in factors if factor <= 1 / MISLEADS)
    return Agreement(rank, ratio, worse, better)
