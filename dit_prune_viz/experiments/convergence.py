"""How many calibration samples are enough: how much the masks still change when there are more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from dit_prune_viz.calibration.draw import draw_inputs
from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, record_draw, with_unread
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.second_moments import watch_package
from dit_prune_viz.calibration.settings import steps_of_run
from dit_prune_viz.calibration.trajectory import probe
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.model import Model

SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Convergence:
    """Share of the weights, 0–1, whose mask bit differs between two numbers of calibration samples.

    sizes: the numbers of samples, rising; each takes the samples of the one before and more. changed: between each
    size and the next, one fewer than sizes. to_largest: between each size and the last, 0 for the last itself.
    """

    sizes: tuple[int, ...]
    changed: tuple[float, ...]
    to_largest: tuple[float, ...]


def measure_convergence(
    model: Model,
    build: Callable[[Calibration], Mapping[str, PackedMask]],
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    steps: int | None = None,
    bins: int = 10,
    progress: Progress | None = None,
) -> Convergence:
    """Calibrate with growing numbers of samples and compare the masks (arXiv 2607.00927, Table 10, asks for 128).

    The largest number of inputs is drawn and watched once; the smaller calibrations are random parts of it.

    Args:
        model: its lock is held meanwhile.
        build: makes the masks from a calibration, by whatever plan.
        sizes: numbers of samples, at least two different ones.
        seed: decides prompts, noise, drawn inputs and which of them belong to the smaller sizes.
        prompts: texts to choose from; None takes the model's own.
        steps: denoising steps; None decides by the model, see `steps_of_run`.
        bins: timestep bins.
        progress: called after every denoising step and every replayed call; may raise `Cancelled`.

    Raises:
        UserError: a number out of range, fewer than two sizes, no prompt.
    """
    sizes = sorted({whole(size, "The number of calibration samples", 1, 100_000) for size in sizes})
    if len(sizes) < 2:
        raise UserError("Convergence compares at least two different numbers of calibration samples.")
    steps = steps_of_run(model, steps)
    bins = whole(bins, "The number of timestep bins", 1, 1000)
    texts = tuple(model.defaults.prompts if prompts is None else prompts)
    if not texts:
        raise UserError("Calibration needs at least one prompt.")
    edges = tuple(index / bins for index in range(bins + 1))
    with model.lock.hold(progress), torch.no_grad():
        planned, halves = probe(model, texts[0], steps, seed)
        draw = draw_inputs(sizes[-1], prompts=texts, steps=planned, halves=halves, seed=seed)
    inputs = record_draw(model, draw, edges=edges, steps=steps, seed=seed, progress=progress)
    inputs = with_unread(model, inputs, progress=progress)
    calibrations = _nested(model, inputs, sizes, seed, progress)
    masks = [build(calibration) for calibration in calibrations]
    return Convergence(
        sizes=tuple(sizes),
        changed=tuple(_differ(first, second) for first, second in pairwise(masks)),
        to_largest=tuple(_differ(mask, masks[-1]) for mask in masks),
    )


def _nested(
    model: Model, inputs: RecordedInputs, sizes: Sequence[int], seed: int, progress: Progress | None
) -> list[Calibration]:
    """One calibration for each size, from one replay: sums per (size it first belongs to, bin)."""
    order = torch.randperm(inputs.samples, generator=torch.Generator().manual_seed(seed))
    group = torch.bucketize(order, torch.tensor(sizes), right=True)
    bins, groups = len(inputs.edges) - 1, len(sizes)
    where = torch.device("cpu") if model.device.type == "mps" else model.device  # MPS has no float64
    squares = {
        layer.name: torch.zeros(groups * bins, layer.shape[1], dtype=torch.float64, device=where)
        for layer in model.layers
    }
    totals = {name: torch.zeros_like(square) for name, square in squares.items()}
    tokens = {layer.name: torch.zeros(groups * bins, dtype=torch.int64) for layer in model.layers}
    slots = torch.zeros(0, dtype=torch.int64)

    def add(name: str, values: torch.Tensor, read: torch.Tensor | None) -> None:
        # Tokens of unknown rows count as one row; calls that a router mixes have one row wherever the family allows it.
        rows = values if values.ndim == 3 else values[None]
        places = slots if len(rows) == len(slots) else slots[:1].expand(len(rows))
        squares[name].index_add_(0, places.to(where), rows.float().square().to(where).sum(1, dtype=torch.float64))
        totals[name].index_add_(0, places.to(where), rows.to(where).sum(1, dtype=torch.float64))
        counts = torch.full_like(places, rows.shape[1]) if read is None else read.reshape(len(rows), -1).sum(1)
        tokens[name].index_add_(0, places, counts)

    start = 0
    names = [layer.name for layer in model.layers]
    with model.lock.hold(progress), torch.no_grad(), watch_package(model, names, add) as run:
        for done, call in enumerate(inputs.calls):
            slots = group[start : start + len(call.rows)] * bins + torch.tensor(call.bins)
            start += len(call.rows)
            run(call)
            if progress is not None:
                progress(done + 1, len(inputs.calls), "Measuring convergence")
        owners = {name: run.owners.get(name, name) for name in names}

    def sums(values: torch.Tensor, count: int) -> torch.Tensor:
        return values.cpu().unflatten(0, (groups, bins))[:count].sum(0)

    return [
        Calibration(
            samples=size,
            seed=seed,
            seconds=0.0,
            timesteps=(),
            edges=inputs.edges,
            sum_squares={name: sums(squares[owner], index + 1) for name, owner in owners.items()},
            tokens={name: sums(tokens[owner], index + 1) for name, owner in owners.items()},
            sums={name: sums(totals[owner], index + 1) for name, owner in owners.items()},
        )
        for index, size in enumerate(sizes)
    ]


def _differ(first: Mapping[str, PackedMask], second: Mapping[str, PackedMask]) -> float:
    weights = sum(mask.weights for mask in first.values())
    changed = sum(mask.differing(second[name]) for name, mask in first.items())
    return changed / max(weights, 1)
