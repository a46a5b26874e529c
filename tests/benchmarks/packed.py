"""The packed format on the bundled model in bfloat16: how much smaller, and how fast in and out."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

from dit_prune_viz.caching import Cache
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.packed_files import read_packed
from dit_prune_viz.export.packed_header import read_header
from dit_prune_viz.export.packed_size import packed_bytes, packed_sizes
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

RATIOS = {50: 2.6, 70: 3.9}
PACK_MB_S, UNPACK_MB_S = 60, 250
SIZE_ERROR, SIZE_MS = 0.03, 20
TIMES = 5


@cache
def _model() -> Model:
    return load_model(ROOT / "assets/emoji-flux", device="cpu", dtype="bfloat16")


@cache
def _pruned(percent: int) -> PrunedModel:
    return prune(_model(), "dit-pruning", sparsity=percent / 100)


def _dense_bytes() -> int:
    return sum(value.nbytes for value in _model().transformer.state_dict().values())


def _ratio(percent: int) -> dict:
    """The whole transformer in bfloat16 over its packed files, header and dense tensors included."""
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(_pruned(percent), Path(folder) / "model") / "transformer"
        size = sum(file.stat().st_size for file in packed.iterdir())
    value = _dense_bytes() / size
    detail = {"dense_bytes": _dense_bytes(), "packed_bytes": size}
    goal = RATIOS[percent]
    return {"value": value, "unit": "×", "goal": f"≥ {goal}", "held": value >= goal, "detail": detail}


def _speed(seconds: list[float], goal: int) -> dict:
    """Dense megabytes a second, the median of several runs."""
    value = _dense_bytes() / 1e6 / median(seconds)
    return {"value": value, "unit": "MB/s", "goal": f"≥ {goal}", "held": value >= goal, "detail": seconds}


def pack_mb_s() -> dict:
    """Packing to the disk, pruning left out."""
    seconds = []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            pack(_pruned(50), Path(folder) / "model")
            seconds.append(time.perf_counter() - start)
    return _speed(seconds, PACK_MB_S)


def unpack_mb_s() -> dict:
    """From the files to plain weights, digests checked."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(_pruned(50), Path(folder) / "model") / "transformer"
        for _ in range(TIMES):
            start = time.perf_counter()
            for _ in read_packed(packed, read_header(packed)):
                pass
            seconds.append(time.perf_counter() - start)
    return _speed(seconds, UNPACK_MB_S)


def packed_size_error() -> dict:
    """The estimate against the exact size, the worst of some recipes, granularities, sparsities and precisions."""
    off = {}
    for dtype in ("bfloat16", "float32"):
        model = load_model(ROOT / "assets/emoji-flux", device="cpu", dtype=dtype)
        sizes = packed_sizes(model)
        for saliency, granularity in product(("stw", "magnitude", "wanda"), ("layer", "row", "cag")):
            for sparsity in (0.0, 0.3, 0.5, 0.6, 0.7, 0.9):
                pruned = prune(model, Recipe(saliency, granularity, sparsity))
                exact = packed_bytes(pruned)
                for kind, known in (("plan", pruned.plan), ("masks", pruned)):
                    off[f"{dtype} {saliency} {granularity} {sparsity} {kind}"] = sizes.estimate(known) / exact - 1
    worst = max(off, key=lambda name: abs(off[name]))
    value = abs(off[worst])
    goal = f"≤ {SIZE_ERROR}"
    return {"value": value, "unit": "", "goal": goal, "held": value <= SIZE_ERROR, "detail": {"worst": worst, **off}}


def _flux_of_many_layers() -> Model:
    """The bundled model with as many blocks as FLUX.1 has, narrow ones."""
    from diffusers import FluxTransformer2DModel

    config = {**_model().transformer.config, "num_layers": 19, "num_single_layers": 38}
    transformer = FluxTransformer2DModel.from_config(config).to(torch.bfloat16).requires_grad_(False)
    pipeline = type(_model().pipeline)(**{**_model().pipeline.components, "transformer": transformer})
    return replace(_model(), pipeline=pipeline, layers=list_layers(transformer), cache=Cache(1 << 30))


def packed_size_ms() -> dict:
    """Milliseconds of one estimate while all layers of a model with FLUX.1's number of layers move."""
    model = _flux_of_many_layers()
    start = time.process_time()
    sizes, recipe = packed_sizes(model), Recipe("magnitude")
    made, seconds = time.process_time() - start, []
    for turn in range(1 + TIMES):
        layers = {one.name: LayerPlan(one.name, "layer", 1.0, 0.3 + 0.1 * turn) for one in model.layers}
        plan = PruningPlan(recipe, None, layers)
        start = time.process_time()
        sizes.estimate(plan)
        seconds.append(time.process_time() - start)
    value = 1e3 * median(seconds[1:])
    detail = {"layers": len(layers), "made_s": made, "first_s": seconds[0], "ms": [1e3 * one for one in seconds[1:]]}
    return {"value": value, "unit": "ms", "goal": f"≤ {SIZE_MS}", "held": value <= SIZE_MS, "detail": detail}


BENCHMARKS = {
    "packed_ratio_50": lambda: _ratio(50),
    "packed_ratio_70": lambda: _ratio(70),
    "pack_mb_s": pack_mb_s,
    "unpack_mb_s": unpack_mb_s,
    "packed_size_error": packed_size_error,
    "packed_size_ms": packed_size_ms,
}
