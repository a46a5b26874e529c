"""Calibration on the model's own trajectories: denoise prompts, watch randomly drawn transformer inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from dit_prune_viz.calibration.draw import draw_inputs
from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.settings import steps_of_run
from dit_prune_viz.calibration.stored import calibration_key, find_calibration, keep_calibration
from dit_prune_viz.calibration.trajectory import probe, walk
from dit_prune_viz.calibration.unread_tokens import UnreadTokens
from dit_prune_viz.checks import check_text, whole
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.model import Model

_MAX_SAMPLES = 100_000

Watch = Callable[[Model, tuple[str, ...], int, int, int, int, Progress | None], Calibration]
"""As `watch`."""


def calibrate(
    model: Model,
    *,
    samples: int = 128,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    steps: int | None = None,
    bins: int = 10,
    progress: Progress | None = None,
    cache: DiskCache | None = None,
    by: Watch | None = None,
) -> Calibration:
    """Sum the squared inputs of every prunable layer over randomly drawn transformer inputs.

    As in arXiv 2607.00927 (128 inputs at timesteps drawn at random over the whole range, Table 10 and Fig. 6): about
    one prompt per 8 inputs is denoised from its own noise, and of all (prompt, step, guidance half) inputs `samples`
    are drawn without replacement. Only those rows count, and of them only tokens that the model reads, no padding.

    Args:
        model: stays as it was; its lock is held meanwhile.
        samples: inputs to watch.
        seed: decides prompts, noise and drawn inputs.
        prompts: texts to choose from; None takes the model's own.
        steps: denoising steps of a run; None decides by the model, see `steps_of_run`.
        bins: timestep bins of equal width over 0..1.
        progress: called after every denoising step; may raise `Cancelled`.
        cache: where the same calibration is looked up first and kept afterwards; None calibrates in any case.
        by: what watches the inputs in the place of `watch`.

    Raises:
        UserError: a number is out of range, no prompt, inputs of a layer that are not finite, too little memory.
    """
    texts = tuple(model.defaults.prompts if prompts is None else prompts)
    samples = whole(samples, "The number of calibration samples", 1, _MAX_SAMPLES)
    steps = steps_of_run(model, steps)
    bins = whole(bins, "The number of timestep bins", 1, 1000)
    seed = whole(seed, "The seed", 0, 2**32 - 1)
    if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
        raise UserError("Calibration needs at least one prompt, and none of them empty.")
    for text in texts:
        check_text(text, "A prompt for calibration")

    key = calibration_key(model, samples=samples, seed=seed, steps=steps, bins=bins, prompts=texts) if cache else ""
    found = find_calibration(cache, key) if cache else None
    if found is None:
        found = (by or watch)(model, texts, samples, seed, steps, bins, progress)
        if cache:
            keep_calibration(cache, key, found)
    return found


def watch(
    model: Model, texts: tuple[str, ...], samples: int, seed: int, steps: int, bins: int, progress: Progress | None
) -> Calibration:
    """The calibration itself, with checked settings. UserError where memory does not suffice, or nothing was drawn."""
    start = time.perf_counter()
    sums = Sums(model.layers, bins, model.device)
    too_large = f"Calibration does not fit into the memory of {model.device}; load the model with --placement stream."
    # no_grad, not inference_mode: tensors that a scheduler keeps must stay usable outside.
    with telling_of_memory(too_large), model.lock.hold(progress), torch.no_grad():
        planned, halves = probe(model, texts[0], steps, seed)
        draw = draw_inputs(samples, prompts=texts, steps=planned, halves=halves, seed=seed)
        unread = UnreadTokens(model.transformer, model.layers)
        timesteps = walk(
            model,
            draw,
            lambda batch: watch_inputs(model.transformer, model.layers, sums, batch.choose, unread),
            steps=steps,
            bins=bins,
            seed=seed,
            check=sums.check,
            progress=progress,
        )
    if not timesteps:
        raise UserError("The transformer was never called at the steps that were drawn; take more steps or samples.")
    return Calibration(
        samples=len(timesteps),
        seed=seed,
        seconds=time.perf_counter() - start,
        timesteps=tuple(timesteps),
        edges=tuple(index / bins for index in range(bins + 1)),
        sum_squares={name: value.cpu() for name, value in sums.squares.items()},
        sums={name: value.cpu() for name, value in sums.totals.items()},
        tokens=sums.tokens,
        draw=draw,
        steps=steps,
    )
