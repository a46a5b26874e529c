"""One move of the sparsity on FLUX.1's layer shapes: a billion random bfloat16 weights on the CPU, per billion.

`plan_first_s`: G_out, plan and report of a model that nothing is known of yet. `plan_again_ms`: the same at another
sparsity. `masks_s`: all masks of a plan. Medians of three; the detail holds processor seconds, and the ratio to reading
the weights once, which says more than seconds do on a busy machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.caching import Cache
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

WIDTH = 3072
DOUBLE = {"norm1.linear": (6, 1), "norm1_context.linear": (6, 1), "ff.in": (4, 1), "ff.out": (1, 4)}
DOUBLE |= {"ff_context.in": (4, 1), "ff_context.out": (1, 4)}
DOUBLE |= {f"attn.{name}": (1, 1) for name in ("q", "k", "v", "out", "add_q", "add_k", "add_v", "add_out")}
SINGLE = {"norm.linear": (3, 1), "q": (1, 1), "k": (1, 1), "v": (1, 1), "proj_mlp": (4, 1), "proj_out": (1, 5)}
"""Layers of a block: outputs and inputs in units of the width. One double and five single blocks: 1.05 billion."""

SINGLES = 5
ROUNDS = 3
NEEDED = 8 << 30


def build() -> Statistics:
    """A stand-in for a loaded and calibrated model; rows of the modulations differ in size, as they do in FLUX.1."""
    blocks = [DOUBLE, *[SINGLE] * SINGLES]
    shapes = {
        f"blocks.{number}.{name}": (out * WIDTH, inn * WIDTH)
        for number, block in enumerate(blocks)
        for name, (out, inn) in block.items()
    }
    generator = torch.Generator().manual_seed(0)
    transformer = nn.Module()
    layers = []
    for name, (d_out, d_in) in shapes.items():
        weight = torch.empty(d_out, d_in, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        if "norm" in name:
            weight *= torch.logspace(-1, 0, d_out)[:, None].bfloat16()
        linear = nn.Linear(1, 1, bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        put(transformer, name, linear)
        layers.append(Layer(name, "blocks", int(name.split(".")[1]), "other", (d_out, d_in)))
    count = sum(layer.weights for layer in layers)
    squares = {layer.name: torch.rand(1, layer.shape[1], generator=generator).double() * 100 for layer in layers}
    tokens = {layer.name: torch.tensor([4096]) for layer in layers}
    calibration = Calibration(1, 0, 0.0, (0.5,), (0.0, 1.0), squares, tokens)
    pipeline, device = SimpleNamespace(transformer=transformer), torch.device("cpu")
    model = Model("", "stand-in", "flux", pipeline, tuple(layers), count, None, device, torch.bfloat16, "stand-in")
    return Statistics(model, calibration)


def put(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root._modules[name]
    root.add_module(last, module)


def forgetful(statistics: Statistics) -> Statistics:
    """The same of a model that remembers nothing of it yet."""
    model = replace(statistics.model, cache=Cache(statistics.model.cache.limit))
    return Statistics(model, statistics.calibration)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


@cache
def measured() -> dict[str, dict[str, float]]:
    """Of the first plan, the next one and its masks: the medians of seconds, processor seconds and of the ratio to
    reading the weights once; per billion weights."""
    recipe, known = Recipe(), build()
    model = known.model
    billions = model.prunable_parameters / 1e9
    rounds: dict[str, list[tuple[float, float, float]]] = {"first": [], "again": [], "masks": []}
    reading = lambda: [model.weight(layer.name).sum() for layer in model.layers]  # noqa: E731
    reading()
    for _ in range(ROUNDS):
        fresh, plans = forgetful(known), []
        once, _ = timed(reading)
        for name, sparsity in (("first", 0.5), ("again", 0.6)):
            taken = timed(partial(plan, recipe, sparsity, fresh, plans))
            rounds[name].append((*taken, once))
        rounds["masks"].append((*timed(plans[-1].make_masks), once))
    found = {}
    for name, taken in rounds.items():
        wall, cpu, readings = (median(some) for some in zip(*[(w, c, w / once) for w, c, once in taken], strict=True))
        found[name] = {"s": wall / billions, "cpu_s": round(cpu / billions, 3), "readings": round(readings, 2)}
    return found


def plan(recipe: Recipe, sparsity: float, statistics: Statistics, plans: list[PrunedModel]) -> None:
    plans.append(rank(replace(recipe, sparsity=sparsity), statistics, later=True))


def result(name: str, goal: float, scale: float, unit: str) -> dict | str:
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < NEEDED:
        return f"needs {NEEDED >> 30} GB of free memory"
    found = measured()[name]
    value = scale * found["s"]
    detail = {**found, "threads": torch.get_num_threads()}
    return {
        "value": value,
        "unit": f"{unit} per 10⁹ weights",
        "goal": f"≤ {goal:g}",
        "held": value <= goal,
        "detail": detail,
    }


def plan_first_s() -> dict | str:
    """The first plan with its report."""
    return result("first", 12, 1, "s")


def plan_again_ms() -> dict | str:
    """The next one, at another sparsity."""
    return result("again", 100, 1000, "ms")


def masks_s() -> dict | str:
    """All masks of a plan."""
    return result("masks", 12, 1, "s")


BENCHMARKS = {"plan_first_s": plan_first_s, "plan_again_ms": plan_again_ms, "masks_s": masks_s}
