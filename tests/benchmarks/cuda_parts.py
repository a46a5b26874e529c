"""The parts of the `cuda` benchmark, each run in a process of its own: `python tests/benchmarks/cuda_parts.py NAME`.

They print one JSON object: value, unit, goal, held, detail. Weights are random; shapes are FLUX.1's at 1024².
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.calibration.input_sums import Sums, watch_inputs
from dit_prune_viz.generation.step_time import milliseconds, time_call
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.select import keep_masks
from dit_prune_viz.masks.sparse_kernels import FP8_KERNELS, KERNELS
from dit_prune_viz.masks.spread import spread
from dit_prune_viz.masks.two_of_four import Shape, Trial, run_trials
from dit_prune_viz.pipelines.layers import Layer, list_layers

SPARSITY = 0.5
WATCHED, CALLS = 128, 16 * 50
"""Transformer calls that a calibration of FLUX watches, out of how many."""
KERNEL_SECONDS = 90
MOST_SECONDS, MOST_OVERHEAD, LEAST_GAIN = 0.1, 5.0, 1.25


@dataclass(frozen=True)
class Setup:
    """Where the parts run and how large: "full" is FLUX.1, "small" a toy of the same build that runs anywhere."""

    device: torch.device
    small: bool

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16

    @property
    def blocks(self) -> tuple[int, int]:
        """Double and single blocks of FLUX.1."""
        return (2, 3) if self.small else (19, 38)

    @property
    def config(self) -> dict:
        """FLUX.1's configuration, without the number of blocks."""
        if not self.small:
            return {"guidance_embeds": True}
        return {
            "in_channels": 16, "attention_head_dim": 16, "num_attention_heads": 4, "joint_attention_dim": 32,
            "pooled_projection_dim": 32, "axes_dims_rope": (4, 6, 6), "guidance_embeds": True,
        }  # fmt: skip

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of text and picture."""
        return (8, 64) if self.small else (512, 4096)

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def flux(setup: Setup, blocks: tuple[int, int], device: torch.device | str | None = None) -> nn.Module:
    """A FLUX transformer with random weights."""
    from diffusers import FluxTransformer2DModel

    double, single = blocks
    default = torch.get_default_dtype()
    torch.set_default_dtype(setup.dtype)
    try:
        with torch.device(device or setup.device):
            model = FluxTransformer2DModel(num_layers=double, num_single_layers=single, **setup.config)
    finally:
        torch.set_default_dtype(default)
    return model.eval().requires_grad_(False)


def call_of(setup: Setup, model: nn.Module) -> dict:
    """Random keyword arguments of one call."""
    text, picture = setup.tokens
    side = round(picture**0.5)
    place = {"device": setup.device, "dtype": setup.dtype}
    grid = torch.zeros(picture, 3, device=setup.device)
    grid[:, 1:] = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(grid)
    return {
        "hidden_states": torch.randn(1, picture, model.config.in_channels, **place),
        "encoder_hidden_states": torch.randn(1, text, model.config.joint_attention_dim, **place),
        "pooled_projections": torch.randn(1, model.config.pooled_projection_dim, **place),
        "timestep": torch.full((1,), 0.5, **place),
        "guidance": torch.full((1,), 3.5, device=setup.device),
        "img_ids": grid,
        "txt_ids": torch.zeros(text, 3, device=setup.device),
    }


def tokens_of(setup: Setup, layers: tuple[Layer, ...]) -> dict[str, int]:
    """Layer → tokens of one call: one for a modulation, else those of its stream."""
    text, picture = setup.tokens
    found = {}
    for layer in layers:
        if "norm" in layer.name:
            found[layer.name] = 1
        elif layer.stack.startswith("single"):
            found[layer.name] = text + picture
        else:
            context = "add_" in layer.name or "context" in layer.name
            found[layer.name] = text if context else picture
    return found


def shapes_of_one_block(setup: Setup) -> tuple[list[tuple[Layer, int]], int]:
    """Every layer of one double and one single block with its number in FLUX.1, and the weights of all of them."""
    layers = list_layers(flux(setup, (1, 1), "meta"))
    double, single = setup.blocks
    counted = [(layer, single if layer.stack.startswith("single") else double) for layer in layers]
    return counted, sum(layer.weights * number for layer, number in counted)


def seconds(setup: Setup, work: Callable[[], object], repeats: int = 3) -> float:
    """The least of several runs, after one to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        setup.synchronise()
        start = time.perf_counter()
        work()
        setup.synchronise()
        taken.append(time.perf_counter() - start)
    return min(taken)


def by_block(setup: Setup, work: Callable[[list[int]], object], counted: list[tuple[Layer, int]]) -> float:
    """Seconds for the whole of FLUX.1: of one block of each sort, times their number."""
    total = 0.0
    for number in sorted({number for _, number in counted}):
        places = [place for place, (_, many) in enumerate(counted) if many == number]
        total += number * seconds(setup, lambda places=places: work(places))
    return total


def stable_sorts(scores: Tensor, granularity: str) -> Tensor:
    """The usual way: sort, and drop the first of every group."""
    rows = scores if granularity == "row" else scores.view(1, -1)
    indices = torch.sort(rows, dim=1, stable=True).indices[:, : removed(rows.shape[1], SPARSITY)]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, indices, False).view(scores.shape)


def masks(setup: Setup) -> dict:
    """Masks of all layers of FLUX.1, CAG's granularities, against stable sorts and reading the weights once."""
    counted, weights = shapes_of_one_block(setup)
    scores = [torch.rand(layer.shape, device=setup.device) for layer, _ in counted]
    halves = [torch.rand(layer.shape, device=setup.device, dtype=setup.dtype) for layer, _ in counted]
    how = ["row" if "norm" in layer.name else "layer" for layer, _ in counted]

    def ours(places: list[int]) -> list[Tensor]:
        tables = [scores[place] for place in places]
        ways = [how[place] for place in places]
        return keep_masks(tables, sparsity=[SPARSITY] * len(tables), granularity=ways)

    def usual(places: list[int]) -> list[Tensor]:
        return [stable_sorts(scores[place], how[place]) for place in places]

    every = list(range(len(counted)))
    if any(not torch.equal(*pair) for pair in zip(ours(every), usual(every), strict=True)):
        raise AssertionError("the masks differ from those of stable sorts")
    value = by_block(setup, ours, counted)
    sorts = by_block(setup, usual, counted)
    reading = by_block(setup, lambda places: [halves[place].sum() for place in places], counted)
    detail = {"weights": weights, "stable_sorts_s": round(sorts, 3), "reading_s": round(reading, 4)}
    detail |= {"times_faster": round(sorts / value, 1), "readings": round(value / reading, 1)}
    return result(value, "s", f"≤ {MOST_SECONDS}", value <= MOST_SECONDS, detail)


@torch.no_grad()
def calibration(setup: Setup) -> dict:
    """What watching adds to the forward passes of a calibration: a few blocks at full width, passes alternating."""
    model = flux(setup, (2, 4))
    call, layers = call_of(setup, model), list_layers(model)
    sums = Sums(layers, 10, setup.device)
    taken: dict[str, list[float]] = {"plain": [], "watched": []}
    for _ in range(1 + (3 if setup.small else 15)):
        for kind, found in taken.items():
            watched = watch_inputs(model, layers, sums, lambda batch: ([0], 0)) if kind == "watched" else None
            with watched or nullcontext():
                setup.synchronise()
                start = time.perf_counter()
                model(**call)
                setup.synchronise()
                found.append(time.perf_counter() - start)
    plain, watched = (median(found[1:]) for found in taken.values())
    value = 100 * WATCHED / CALLS * (watched / plain - 1)
    detail = {"plain_ms": round(1e3 * plain, 2), "watched_ms": round(1e3 * watched, 2)}
    detail["watched_calls"] = f"{WATCHED} of {CALLS}"
    return result(round(value, 2), "% of a calibration", f"≤ {MOST_OVERHEAD:g}", value <= MOST_OVERHEAD, detail)


def two_of_four(layer: Layer, device: torch.device) -> PrunedLayer:
    """A random 2:4 mask."""
    d_out, d_in = layer.shape
    scores = torch.rand(d_out, d_in, device=device)
    mask = keep_masks([scores], sparsity=[0.0], granularity=["2:4"])[0]
    return PrunedLayer(pack(mask).to(device))


def kernels(setup: Setup) -> dict:
    """2:4 by shape: every kernel on every layer shape of FLUX.1 at 1024², both sides compiled."""
    counted, _ = shapes_of_one_block(setup)
    tokens = tokens_of(setup, tuple(layer for layer, _ in counted))
    layers = {Shape(*layer.shape, tokens[layer.name]): layer for layer, _ in counted}

    def weight(layer: Layer) -> tuple[Tensor, Tensor]:
        table = torch.randn(layer.shape, device=setup.device, dtype=setup.dtype) / layer.shape[1] ** 0.5
        return two_of_four(layer, setup.device).dense(table), table[:, 0].contiguous()

    trials: list[Trial] = []
    ends = time.monotonic() + KERNEL_SECONDS
    for shape, layer in sorted(layers.items(), reverse=True):  # the large shapes matter most
        if time.monotonic() > ends:
            trials.append(Trial(shape, "all", float("nan"), failure="no time was left"))
            continue
        maker = {shape: lambda layer=layer: weight(layer)}
        trials += run_trials(maker, (*KERNELS, *FP8_KERNELS), milliseconds, compile=not setup.small)
    ran = [trial for trial in trials if trial.usable]
    value = max((trial.dense_ms / trial.ms for trial in ran), default=0.0)
    detail = {"trials": [{**asdict(trial), "shape": str(tuple(asdict(trial.shape).values()))} for trial in trials]}
    return result(round(value, 2), "× as fast, best shape", f"≥ {LEAST_GAIN}", value >= LEAST_GAIN, detail)


@torch.no_grad()
def step(setup: Setup) -> dict:
    """One call of a FLUX transformer with fewer blocks, all its layers 2:4: kernels where they gain, against dense."""
    model = flux(setup, (1, 2))
    layers = list_layers(model)
    pruned = {layer.name: two_of_four(layer, setup.device) for layer in layers}
    call = (), call_of(setup, model)
    found = time_call(model, pruned, call, tokens_of(setup, layers), KERNELS, compile=not setup.small)
    value = found.dense_ms / found.sparse_ms if found.sparse_ms else 1.0
    detail = {"dense_ms": round(found.dense_ms, 2), "sparse_ms": found.sparse_ms and round(found.sparse_ms, 2)}
    detail |= {"error": found.error, "layers": dict(Counter(found.faster.values())), "dense_layers": len(found.dense)}
    return result(round(value, 3), "× as fast, a step", f"≥ {LEAST_GAIN}", value >= LEAST_GAIN, detail)


def unpacking(setup: Setup) -> dict:
    """Masked weights of all layers of FLUX.1 from one-bit masks, against reading the weights once."""
    counted, _ = shapes_of_one_block(setup)
    halves, packed = [], []
    for layer, _ in counted:
        halves.append(torch.randn(layer.shape, device=setup.device, dtype=setup.dtype))
        bits = torch.randint(0, 256, (-(-layer.weights // 8),), device=setup.device, dtype=torch.uint8)
        packed.append(PrunedLayer(PackedMask(bits, layer.shape)))
    value = by_block(setup, lambda places: [packed[place].dense(halves[place]) for place in places], counted)
    reading = by_block(setup, lambda places: [halves[place].sum() for place in places], counted)
    detail = {"reading_s": round(reading, 4), "readings": round(value / reading, 1)}
    return result(value, "s for every layer", "", True, detail)


def resident(setup: Setup) -> dict:
    """Weights of all layers of FLUX.1 from masks and kept values at 50 %, against writing the weights once."""
    counted, _ = shapes_of_one_block(setup)
    packed, values, tables = [], [], []
    for layer, _ in counted:
        mask = pack(torch.rand(layer.shape) < SPARSITY).to(setup.device)
        packed.append(mask)
        values.append(torch.randn(mask.kept, device=setup.device, dtype=setup.dtype))
        tables.append(torch.empty(layer.shape, device=setup.device, dtype=setup.dtype))
    found = [spread(mask, own) for mask, own in zip(packed, values, strict=True)]
    every = zip(tables, packed, values, strict=True)
    plain = [torch.zeros_like(table).masked_scatter_(mask.unpack(), own) for table, mask, own in every]
    same = all(torch.equal(*pair) for pair in zip(found, plain, strict=True))
    value = by_block(setup, lambda places: [spread(packed[i], values[i], out=tables[i]) for i in places], counted)
    writing = by_block(setup, lambda places: [tables[place].zero_() for place in places], counted)
    detail = {"writing_s": round(writing, 4), "writings": round(value / writing, 1), "same_bits": same}
    return result(value, "s for every layer", "same bits", same, detail)


@torch.no_grad()
def placement(setup: Setup) -> dict:
    """One call with the blocks streamed from the machine's memory by diffusers' group offload, against all there."""
    from diffusers.hooks import apply_group_offloading

    blocks = (1, 2) if setup.small else (4, 8)
    model = flux(setup, blocks)
    call = call_of(setup, model)
    whole = seconds(setup, lambda: model(**call))
    reference = model(**call).sample
    cpu = torch.device("cpu")
    on_gpu = setup.device.type == "cuda"
    options = {"offload_type": "block_level", "num_blocks_per_group": 1, "use_stream": on_gpu, "non_blocking": on_gpu}
    apply_group_offloading(model, onload_device=setup.device, offload_device=cpu, **options)
    streamed = seconds(setup, lambda: model(**call))
    same = torch.equal(model(**call).sample, reference)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    detail = {"whole_ms": round(1e3 * whole, 1), "streamed_ms": round(1e3 * streamed, 1), "blocks": blocks}
    detail |= {"gb_per_s": round(size / streamed / 1e9, 1), "same_output": same}
    return result(round(streamed / whole, 2), "× the time of a call, streamed", "same output", same, detail)


def result(value: float, unit: str, goal: str, held: bool, detail: dict) -> dict:
    """A benchmark's answer."""
    return {"value": value, "unit": unit, "goal": goal, "held": held, "detail": detail}


PARTS = {part.__name__: part for part in (masks, calibration, kernels, step, placement, unpacking, resident)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run one part of the cuda benchmark.")
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", choices=("full", "small"), default="full")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(json.dumps(PARTS[options.name](Setup(torch.device(options.device), options.scale == "small"))))
