"""Transformer inputs to learn from: more of the kind that a calibration watched, both halves of guidance together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dit_prune_viz.calibration import batch_rows
from dit_prune_viz.calibration.draw import Draw, draw_inputs
from dit_prune_viz.calibration.recorded_inputs import Call, record_draw
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.trajectory import Place, probe
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.vocabulary import more_prompts

_SHARE = 16
"""Inputs from each run. What is learned from one step of a run holds for its other steps, not for other runs."""


@dataclass(frozen=True, eq=False)
class DistillationSet:
    """Calls of the transformer, each a small sample of all timesteps.

    Attributes:
        calls: each with up to as many rows as asked for, and with what the dense model answered.
        edges: of the timestep bins.
        pairs: for every call its (conditional, unconditional) inputs of the same step of a run, as positions among the
            rows that count; none without classifier-free guidance.
        scale: guidance scale s; the sampler sees u + s·(c − u).
    """

    calls: tuple[Call, ...]
    edges: tuple[float, ...]
    pairs: tuple[tuple[tuple[int, int], ...], ...]
    scale: float

    @property
    def samples(self) -> int:
        """How many inputs there are."""
        return sum(len(call.rows) for call in self.calls)

    def split(self, first: int, second: int) -> tuple[DistillationSet, DistillationSet]:
        """The calls in two parts that are to each other as two numbers, neither empty where there are two calls."""
        at = min(max(1, round(len(self.calls) * first / (first + second))), max(1, len(self.calls) - 1))
        return (
            replace(self, calls=self.calls[:at], pairs=self.pairs[:at]),
            replace(self, calls=self.calls[at:] or self.calls, pairs=self.pairs[at:] or self.pairs),
        )


def record_distillation_set(
    model: Model,
    like: Calibration,
    samples: int,
    *,
    rows: int = 16,
    memory: int = 4 << 30,
    progress: Progress | None = None,
) -> DistillationSet:
    """About `samples` inputs, with other noise than that of `like` and with more texts than it could choose from.

    The more texts, the less of what is learned holds for those texts alone; where there are fewer than runs, words of
    the model's own vocabulary make up the others (`more_prompts`).

    Args:
        model: the calibrated model, dense; its lock is held meanwhile.
        like: a calibration of it.
        samples: how many inputs, at least 1; under guidance they come in pairs.
        rows: of one call.
        memory: bytes that the inputs may take, on the CPU; fewer inputs are recorded where each takes much.
        progress: called after every denoising step; may raise `Cancelled`.

    Raises:
        UserError: numbers out of range, a calibration that does not say what it watched or is of another model.
    """
    samples = whole(samples, "The number of inputs to learn from", 1, 100_000)
    drawn = like.need_draw()
    texts = drawn.texts or drawn.prompts
    seed = (like.seed + 0x7F4A7C15) % 2**32
    sizes: list[float] = []

    def weigh(_: str, args: tuple, kwargs: dict) -> None:
        sizes.append(batch_rows.nbytes(batch_rows.arguments(args, kwargs)) / batch_rows.batch_size(args, kwargs))

    with model.lock.hold(progress), torch.no_grad():
        planned, halves = probe(model, texts[0], like.steps, seed, weigh)
    samples = min(samples, max(rows, int(memory / max(sizes))))
    share = max(1, min(_SHARE // halves, planned))
    wanted = -(-samples // halves)
    more = more_prompts(model.pipeline, max(0, -(-wanted // share) - len(texts)), seed)
    texts = tuple(dict.fromkeys((*texts, *more)))
    steps = draw_inputs(wanted, prompts=texts, steps=planned, halves=1, seed=seed, share=share)
    both = {run: dict.fromkeys(found, tuple(range(halves))) for run, found in steps.watched.items()}
    empty: list[int] = []

    def arrange(pieces: list[Call]) -> list[Call]:
        groups: dict[object, list[Call]] = {}
        for number, piece in enumerate(pieces):
            groups.setdefault(piece.places[0][:2] if len(piece.rows) == 1 else number, []).append(piece)
        half = _empty_half(pieces, steps.prompts)
        empty.extend([] if half is None else [half])
        order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
        mixed = list(groups.values())
        return [piece for place in order for piece in mixed[place]]

    draw = Draw(steps.prompts, both, steps.texts)
    inputs = record_draw(
        model,
        draw,
        edges=like.edges,
        steps=like.steps,
        seed=seed,
        rows=rows,
        arrange=arrange,
        outputs=True,
        progress=progress,
    )
    pairs = tuple(_pairs(call.places, empty[0]) if empty else () for call in inputs.calls)
    return DistillationSet(inputs.calls, inputs.edges, pairs, model.defaults.guidance_scale)


def _empty_half(pieces: Sequence[Call], prompts: Sequence[str]) -> int | None:
    """The half under guidance whose inputs do not know the prompt; None where that cannot be told, or is none.

    Pipelines differ in which half comes first. Inputs of the same step of two prompts differ in their latents in either
    half, but in their text in the conditional one alone.
    """
    single = {piece.places[0]: piece.arguments for piece in pieces if len(piece.rows) == 1}
    by_step: dict[int, list[int]] = {}  # the runs with both halves of a step; steps in the order of their first input
    for run, step, half in single:
        if half == 0 and (run, step, 1) in single:
            by_step.setdefault(step, []).append(run)
    for step, (run, *others) in by_step.items():
        other = next((other for other in others if prompts[other] != prompts[run]), None)
        if other is not None:
            equal = [batch_rows.equal_leaves(single[run, step, half], single[other, step, half]) for half in (0, 1)]
            return None if equal[0] == equal[1] else equal.index(max(equal))
    return None


def _pairs(places: Sequence[Place], empty: int) -> tuple[tuple[int, int], ...]:
    """(conditional, unconditional) positions of the inputs that share run and step."""
    at = {place: position for position, place in enumerate(places)}
    return tuple(
        (position, at[run, step, empty])
        for (run, step, half), position in at.items()
        if half != empty and (run, step, empty) in at
    )


def guided(outputs: torch.Tensor, pairs: Sequence[tuple[int, int]], scale: float) -> torch.Tensor:
    """What the sampler sees of outputs (rows, …): u + s·(c − u) of every pair, (pairs, …)."""
    conditional, empty = (outputs[list(side)] for side in zip(*pairs, strict=True))
    return empty + scale * (conditional - empty)
