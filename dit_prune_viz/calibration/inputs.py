"""The transformer inputs that a calibration watched, kept so that the transformer alone can see them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from dit_prune_viz.calibration import rows as row_of
from dit_prune_viz.calibration.collect import batch_size
from dit_prune_viz.calibration.draw import Draw, draw_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.trajectory import Batch, probe, walk
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.model import Model

_JOINED = 16
"""Rows of one replayed call."""

_LESSON_SHARE = 32
"""Inputs to learn from per run: a run costs the same however many of its steps are kept."""


@dataclass(frozen=True, eq=False)
class Call:
    """Some of the inputs, as one call of the transformer.

    Attributes:
        arguments: of the call, on the CPU.
        batch: rows in the call.
        rows: those of them that count.
        bins: timestep bin of each row that counts.
    """

    arguments: row_of.Arguments
    batch: int
    rows: tuple[int, ...]
    bins: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Transformer inputs of one model, in the order in which they were watched.

    Attributes:
        calls: all of them, up to 16 to a call where the family allows it.
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


def record_inputs(model: Model, like: Calibration, *, progress: Progress | None = None) -> Inputs:
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
    if like.draw is None:
        raise UserError("This calibration does not say which inputs it watched; calibrate again.")
    return record_draw(model, like.draw, edges=like.edges, steps=like.steps, seed=like.seed, progress=progress)


def held_out_inputs(model: Model, like: Calibration, samples: int, *, progress: Progress | None = None) -> Inputs:
    """`samples` inputs that `like` did not watch: other noise, and other prompts where the model's own suffice.

    The prompts are the model's defaults without those of the calibration, or all of them if none are left.
    UserError as in `record_inputs`.
    """
    samples = whole(samples, "The number of held-out inputs", 1, 10_000)
    if like.draw is None:
        raise UserError("This calibration does not say which inputs it watched; calibrate again.")
    used = set(like.draw.prompts)
    texts = [text for text in model.defaults.prompts if text not in used] or list(model.defaults.prompts)
    seed = (like.seed + 0x9E3779B9) % 2**32
    with model.lock, torch.no_grad():
        planned, halves = probe(model, texts[0], like.steps, seed)
        draw = draw_inputs(samples, prompts=texts, steps=planned, halves=halves, seed=seed)
    return record_draw(model, draw, edges=like.edges, steps=like.steps, seed=seed, progress=progress)


def lesson_inputs(
    model: Model, like: Calibration, samples: int, *, rows: int = _JOINED, progress: Progress | None = None
) -> Inputs:
    """`samples` inputs to learn from: the texts that `like` could choose from, other noise, more steps of each run.

    Every call holds up to `rows` inputs of timesteps all over the range, so that each of them is a small sample of the
    whole. UserError as in `record_inputs`, and for numbers out of range.
    """
    samples = whole(samples, "The number of inputs to learn from", 1, 100_000)
    if like.draw is None:
        raise UserError("This calibration does not say which inputs it watched; calibrate again.")
    texts = like.draw.texts or like.draw.prompts
    seed = (like.seed + 0x7F4A7C15) % 2**32
    with model.lock, torch.no_grad():
        planned, halves = probe(model, texts[0], like.steps, seed)
        draw = draw_inputs(
            samples, prompts=texts, steps=planned, halves=halves, seed=seed, share=min(_LESSON_SHARE, planned * halves)
        )
    return record_draw(
        model, draw, edges=like.edges, steps=like.steps, seed=seed, rows=rows, mixed=True, progress=progress
    )


def run_call(model: Model, call: Call) -> list[torch.Tensor]:
    """The transformer's output (…) for each row of the call that counts. Lock and grad mode are the caller's."""
    args, kwargs = row_of.split(row_of.move(call.arguments, model.device))
    output = model.transformer(*args, **kwargs)[0]
    return [output[row] for row in call.rows]


def record_draw(
    model: Model,
    draw: Draw,
    *,
    edges: tuple[float, ...],
    steps: int,
    seed: int,
    rows: int = _JOINED,
    mixed: bool = False,
    progress: Progress | None = None,
) -> Inputs:
    """The inputs of any draw: `edges` of equally wide timestep bins, `steps` asked for, `seed` of the noise.

    Up to `rows` inputs that fit together make one call, in the order in which they were watched or `mixed`.
    """
    pieces: list[Call] = []
    paths: set[row_of.Path] = set()
    probed: list[tuple[int, dict]] = []

    def see(args, kwargs):
        probed.append((batch_size(args, kwargs), row_of.lengths(row_of.arguments(args, kwargs))))

    def keep(args, kwargs, watched, bin_index):
        call, batch = row_of.arguments(args, kwargs), batch_size(args, kwargs)
        small_batch, small = probed[0]
        if batch == small_batch:
            pieces.append(Call(row_of.store(call), batch, tuple(watched), (bin_index,) * len(watched)))
            return
        found = row_of.batched(small, small_batch, row_of.lengths(call), batch)
        paths.update(found)
        pieces.extend(Call(row_of.take_row(call, row, found), 1, (0,), (bin_index,)) for row in watched)

    @contextmanager
    def watch(batch: Batch) -> Iterator[None]:
        handle = model.transformer.register_forward_pre_hook(_recorder(batch, keep), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    with model.lock, torch.no_grad():
        probe(model, draw.prompts[0], steps, seed, see)
        walk(
            model,
            draw,
            watch,
            steps=steps,
            bins=len(edges) - 1,
            seed=seed,
            progress=progress,
            what="Recording inputs",
        )
    if mixed:
        order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed)).tolist()
        pieces = [pieces[place] for place in order]
    calls = tuple(_joined(pieces, paths, rows))
    return Inputs(calls, edges, sum(row_of.nbytes(call.arguments) for call in calls))


def _recorder(batch: Batch, keep):
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        watched, bin_index = batch.choose(batch_size(args, kwargs))
        if watched:
            keep(args, kwargs, watched, bin_index)

    return hook


def _joined(pieces: list[Call], paths: set[row_of.Path], rows: int) -> Iterator[Call]:
    """Neighbouring calls put together as far as they fit and a number of rows allows."""
    group: list[Call] = []
    for piece in pieces:
        fits = group and paths and sum(call.batch for call in group) + piece.batch <= rows
        if group and not (fits and row_of.joins(group[0].arguments, piece.arguments, paths)):
            yield _one(group, paths)
            group = []
        group.append(piece)
    if group:
        yield _one(group, paths)


def _one(group: list[Call], paths: set[row_of.Path]) -> Call:
    if len(group) == 1:
        return group[0]
    rows: list[int] = []
    batch = 0
    for call in group:
        rows += [batch + row for row in call.rows]
        batch += call.batch
    merged = row_of.join([call.arguments for call in group], paths)
    return Call(merged, batch, tuple(rows), tuple(index for call in group for index in call.bins))
