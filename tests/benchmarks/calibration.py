"""What watching costs: calibration against the same forward passes without it."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pipelines.model import Model, load_model

_BATCH = 8
_ROWS = (0, 3)
"""Rows watched in each call: 128 inputs out of 16 prompts × 20 steps × 2 halves are 1.6 of every 8, rounded up."""
_ROUNDS = 15
_PROCESSES = 2
_MOST_TIME = 10.0
_MOST_MEMORY = 1.0


def calibration_overhead() -> dict:
    """Time and peak memory that calibration's hooks add to the forward passes of the bundled model, in percent.

    Time: watched and plain passes alternate on the same inputs, and the medians are compared. Memory: peak of the
    process (of the allocator on CUDA), each kind in processes of its own, the least of two.
    """
    model = load_model(ROOT / "assets/emoji-flux")
    call, sums = _inputs(model), Sums(model.layers, 10, model.device)
    seconds: dict[str, list[float]] = {"plain": [], "watched": []}
    for _ in range(_ROUNDS):
        for kind, taken in seconds.items():
            with _block(kind, model, sums):
                taken.append(_seconds(model, call))
    plain, watched = (statistics.median(taken) for taken in seconds.values())
    peaks = {kind: min(_peak_of_process(kind) for _ in range(_PROCESSES)) for kind in seconds}
    slower, larger = 100 * (watched / plain - 1), 100 * (peaks["watched"] / peaks["plain"] - 1)
    return {
        "value": round(slower, 2),
        "unit": "% of the forward passes' time",
        "goal": f"≤ {_MOST_TIME:g} % time and ≤ {_MOST_MEMORY:g} % peak memory",
        "held": slower <= _MOST_TIME and larger <= _MOST_MEMORY,
        "detail": {
            "plain_ms": round(1000 * plain, 1),
            "watched_ms": round(1000 * watched, 1),
            "memory_percent": round(larger, 2),
            "plain_mb": round(peaks["plain"] / 2**20),
            "rows": f"{len(_ROWS)} of {_BATCH}",
            "device": str(model.device),
        },
    }


def _inputs(model: Model) -> dict:
    """The keyword arguments of the model's first call for eight prompts."""
    calls: list[dict] = []
    defaults = model.defaults
    arguments = call_arguments(
        model.pipeline,
        defaults.prompts[:_BATCH],
        steps=1,
        guidance_scale=1.0,
        height=defaults.height,
        width=defaults.width,
        max_sequence_length=defaults.max_sequence_length,
    )
    handle = model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        model.pipeline(**arguments, generator=torch.Generator().manual_seed(0), output_type="latent")
    handle.remove()
    return calls[0]


def _block(kind: str, model: Model, sums: Sums):
    if kind == "plain":
        return nullcontext()
    return watch_inputs(model.transformer, model.layers, sums, lambda batch: (list(_ROWS), 3))


@torch.no_grad()
def _seconds(model: Model, call: dict) -> float:
    _wait(model)
    start = time.perf_counter()
    model.transformer(**call)
    _wait(model)
    return time.perf_counter() - start


def _wait(model: Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _peak_of_process(kind: str) -> int:
    done = subprocess.run([sys.executable, __file__, kind], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _peak(kind: str) -> int:
    """Bytes at the peak of a few passes of this process."""
    model = load_model(ROOT / "assets/emoji-flux")
    call = _inputs(model)
    sums = Sums(model.layers if kind == "watched" else (), 10, model.device)
    with _block(kind, model, sums):
        for _ in range(5):
            _seconds(model, call)
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


BENCHMARKS = {"calibration_overhead": calibration_overhead}

if __name__ == "__main__":
    print(_peak(sys.argv[1]))
