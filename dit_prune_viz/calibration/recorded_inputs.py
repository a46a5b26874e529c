"""The transformer inputs that a calibration watched, kept so that the transformer alone can see them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import nn

from dit_prune_viz.calibration import batch_rows
from dit_prune_viz.calibration.call_masks import mask_pattern
from dit_prune_viz.calibration.draw import Draw, draw_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.trajectory import Batch, Place, probe, walk
from dit_prune_viz.calibration.unread_tokens import Unread, UnreadTokens
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.pipelines.denoisers import before_calls, named_denoisers
from dit_prune_viz.pipelines.model import Model

_JOINED = 16
"""Rows of one replayed call."""


@dataclass(frozen=True, eq=False)
class Call:
    """Some of the inputs, as one call of the transformer.

    Attributes:
        arguments: of the call, on the CPU.
        batch: rows in the call.
        rows: those of them that count.
        bins: timestep bin of each row that counts.
        places: run, step and half of each row that counts.
        output: what the transformer answered, (rows that count, …) on the CPU; None where that was not kept.
        unread: tokens of the layers' inputs that the dense transformer never reads, such as masked padding; None where
            there are none, or they were not looked for.
        denoiser: which transformer is called, where there are two.
    """

    arguments: batch_rows.Arguments
    batch: int
    rows: tuple[int, ...]
    bins: tuple[int, ...]
    places: tuple[Place, ...] = ()
    output: torch.Tensor | None = None
    unread: Unread | None = None
    denoiser: str = ""


@dataclass(frozen=True, eq=False)
class RecordedInputs:
    """Transformer inputs of one model, in the order in which they were watched.

    Attributes:
        calls: all of them, up to 16 to a call where the family allows it; one to a call if it has routed experts.
        edges: of the timestep bins.
        nbytes: memory they take, on the CPU: latents and text embeddings, a fraction of one layer's activations.
    """

    calls: tuple[Call, ...]
    edges: tuple[float, ...]
    nbytes: int

    @property
    def samples(self) -> int:
        """How many inputs there are."""
        return sum(len(call.rows) for call in self.calls)


def record_inputs(model: Model, like: Calibration, *, progress: Progress | None = None) -> RecordedInputs:
    """The inputs that `like` watched, from the same prompts, noise, steps and draw.

    Walking the trajectories again costs as much as calibrating; replaying the recorded inputs costs one forward of the
    drawn rows only, dense or pruned, as often as they are needed.

    Args:
        model: the calibrated model, dense; its lock is held meanwhile.
        like: a calibration of it.
        progress: called after every denoising step; may raise `Cancelled`.

    Raises:
        UserError: the calibration does not say what it watched, or belongs to another model.
    """
    inputs = record_draw(model, like.need_draw(), edges=like.edges, steps=like.steps, seed=like.seed, progress=progress)
    return with_unread(model, inputs, progress=progress)


def held_out_inputs(
    model: Model, like: Calibration, samples: int, *, progress: Progress | None = None
) -> RecordedInputs:
    """Inputs that a calibration did not watch: other noise, and other prompts where the model's own suffice.

    The prompts are the model's defaults without those of the calibration, or all of them if none are left. Under
    guidance both halves of a step are watched, so that what comes of them is known.

    Args:
        model: the calibrated model, dense; its lock is held meanwhile.
        like: a calibration of it.
        samples: how many inputs, one more where a half would be alone.
        progress: called after every denoising step; may raise `Cancelled`.

    Raises:
        UserError: a number out of range, and as in `record_inputs`.
    """
    samples = whole(samples, "The number of held-out inputs", 1, 10_000)
    used = set(like.need_draw().prompts)
    texts = [text for text in model.defaults.prompts if text not in used] or list(model.defaults.prompts)
    seed = (like.seed + 0x9E3779B9) % 2**32
    with model.lock.hold(progress), torch.no_grad():
        planned, halves = probe(model, texts[0], like.steps, seed)
        draw = draw_inputs(-(-samples // halves), prompts=texts, steps=planned, halves=1, seed=seed, share=1)
        draw = replace(draw, watched=_both_halves(draw.watched, halves))
    return record_draw(model, draw, edges=like.edges, steps=like.steps, seed=seed, progress=progress)


def _both_halves(watched: Mapping[int, Mapping[int, tuple[int, ...]]], halves: int) -> dict:
    return {run: dict.fromkeys(steps, tuple(range(halves))) for run, steps in watched.items()}


def with_unread(model: Model, inputs: RecordedInputs, *, progress: Progress | None = None) -> RecordedInputs:
    """The same inputs, each call with the tokens that the transformer never reads.

    Statistics of replayed calls need them. They are looked for once, as a pruned model would answer otherwise.

    Args:
        model: dense; its lock is held meanwhile.
        inputs: of it.
        progress: called after every call with masks; may raise `Cancelled`.
    """
    finder = UnreadTokens(model.transformer, model.layers)
    calls = []
    with model.lock.hold(progress), torch.no_grad():
        for done, call in enumerate(inputs.calls):
            called = named_denoisers(model.transformer)[call.denoiser]
            if mask_pattern(called, *batch_rows.split(call.arguments)) is None:
                calls.append(call)
                continue
            moved = batch_rows.split(batch_rows.move(call.arguments, model.device))
            calls.append(replace(call, unread=finder.of(*moved, call.denoiser)))
            if progress is not None:
                progress(done + 1, len(inputs.calls), "Finding masked tokens")
    return replace(inputs, calls=tuple(calls))


def run_call(model: Model, call: Call) -> list[torch.Tensor]:
    """The transformer's output (…) for each row of the call that counts. Lock and grad mode are the caller's."""
    args, kwargs = batch_rows.split(batch_rows.move(call.arguments, model.device))
    output = named_denoisers(model.transformer)[call.denoiser](*args, **kwargs)[0]
    return [output[row] for row in call.rows]


def record_draw(
    model: Model,
    draw: Draw,
    *,
    edges: tuple[float, ...],
    steps: int,
    seed: int,
    rows: int | None = None,
    arrange: Callable[[list[Call]], list[Call]] | None = None,
    outputs: bool = False,
    progress: Progress | None = None,
) -> RecordedInputs:
    """The inputs of any draw: `edges` of equally wide timestep bins, `steps` asked for, `seed` of the noise.

    Neighbours that fit together make one call of up to `rows` inputs, in the order in which they were watched or as
    `arrange` puts them, which is given the inputs one by one where the family allows it. None makes calls of 16, but of
    one input where a router mixes the tokens of a call, so that it is known whose they are. With `outputs` the calls
    hold what the transformer answered.
    """
    if rows is None:
        rows = 1 if any(layer.routed for layer in model.layers) else _JOINED
    record = _Record()
    with model.lock.hold(progress), torch.no_grad():
        probe(model, draw.prompts[0], steps, seed, record.see)
        walk(
            model,
            draw,
            lambda batch: record.watch(model, batch, outputs),
            steps=steps,
            bins=len(edges) - 1,
            seed=seed,
            progress=progress,
            what="Recording inputs",
        )
    pieces = record.pieces if arrange is None else arrange(record.pieces)
    calls = tuple(_joined(pieces, record.paths, rows))
    return RecordedInputs(calls, edges, sum(batch_rows.nbytes(call.arguments) for call in calls))


class _Record:
    """What is watched: single inputs, where the first two calls have shown which arguments have one entry per row."""

    def __init__(self) -> None:
        self.pieces: list[Call] = []
        self.paths: set[batch_rows.Path] = set()
        self._small: tuple[int, dict] = 0, {}  # of a call with one prompt: rows, and lengths of its arguments
        self._waiting: list[tuple[Call, tuple[int, ...]]] = []  # for the call's output, rows of each piece in the call

    def see(self, denoiser: str, args: tuple, kwargs: dict) -> None:
        self._small = batch_rows.batch_size(args, kwargs), batch_rows.lengths(batch_rows.arguments(args, kwargs))

    @contextmanager
    def watch(self, model: Model, batch: Batch, outputs: bool) -> Iterator[None]:
        """Inside, the rows that `batch` chooses are noted, with the transformer's `outputs` if asked for."""

        def before(denoiser: str, args: tuple, kwargs: dict) -> None:
            watched, bin_index = batch.choose(batch_rows.batch_size(args, kwargs))
            if watched:
                taken = self._taken(args, kwargs, watched, bin_index, batch.places)
                self._waiting = [(replace(piece, denoiser=denoiser), rows) for piece, rows in taken]

        def after(module: nn.Module, args: tuple, output: tuple) -> None:
            for piece, rows in self._waiting:
                answer = torch.stack([output[0][row] for row in rows]).cpu() if outputs else None
                self.pieces.append(replace(piece, output=answer))
            self._waiting = []

        with ExitStack() as hooks:
            hooks.enter_context(before_calls(model.transformer, before))
            for denoiser in named_denoisers(model.transformer).values():
                hooks.callback(denoiser.register_forward_hook(after).remove)
            yield

    def _taken(self, args, kwargs, watched, bin_index, places) -> list[tuple[Call, tuple[int, ...]]]:
        call, batch = batch_rows.arguments(args, kwargs), batch_rows.batch_size(args, kwargs)
        small_batch, small = self._small
        if batch == small_batch:
            whole = Call(batch_rows.store(call), batch, tuple(watched), (bin_index,) * len(watched), places)
            return [(whole, tuple(watched))]
        found = batch_rows.batched(small, small_batch, batch_rows.lengths(call), batch)
        self.paths.update(found)
        return [
            (Call(batch_rows.take_row(call, row, found), 1, (0,), (bin_index,), (place,)), (row,))
            for row, place in zip(watched, places, strict=True)
        ]


def _joined(pieces: list[Call], paths: set[batch_rows.Path], rows: int) -> Iterator[Call]:
    """Neighbouring calls put together as far as they fit and a number of rows allows."""
    group: list[Call] = []
    for piece in pieces:
        same = group and group[0].denoiser == piece.denoiser
        fits = same and paths and sum(call.batch for call in group) + piece.batch <= rows
        if group and not (fits and batch_rows.joins(group[0].arguments, piece.arguments, paths)):
            yield _one(group, paths)
            group = []
        group.append(piece)
    if group:
        yield _one(group, paths)


def _one(group: list[Call], paths: set[batch_rows.Path]) -> Call:
    if len(group) == 1:
        return group[0]
    rows: list[int] = []
    batch = 0
    for call in group:
        rows += [batch + row for row in call.rows]
        batch += call.batch
    merged = batch_rows.join([call.arguments for call in group], paths)
    bins, places = (
        tuple(chain.from_iterable(parts)) for parts in zip(*((c.bins, c.places) for c in group), strict=True)
    )
    output = None if group[0].output is None else torch.cat([call.output for call in group])
    return Call(merged, batch, tuple(rows), bins, places, output, denoiser=group[0].denoiser)
