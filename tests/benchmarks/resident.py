"""A model of FLUX's width whose layers stay packed in memory: how much less it takes than a plain one, and how much
longer a step is, with over a billion random bfloat16 weights at 50 %.

    python tests/benchmarks/run.py --only resident_memory_ratio,resident_time_ratio
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MEMORY_GOAL, TIME_GOAL = 0.62, 1.6
LATENT, TEXT = 256, 256
"""Tokens of a call: a picture of 256 × 256, and half of FLUX's longest prompt. Longer calls hide the unpacking more."""
BLOCKS = {"memory": (4, 5), "time": (2, 3)}
"""Double and single blocks: 2.1 and 1.2 billion weights. FLUX.1 has 12, and the layer that is being made, 113 MB at
most, counts for less there."""
TIMES = 3


def _full_size(blocks: tuple[int, int]):
    """The benchmark of such a model's pruned run, with other blocks and tokens."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("full_size", Path(__file__).with_name("full_size.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LATENT, module.TEXT = LATENT, TEXT
    module.DUAL, module.SINGLE = blocks
    return module


def _make_resident(full_size, transformer) -> None:
    """Every prunable layer, one after the other, so that only one of them is there twice."""
    import torch

    from dit_prune_viz.export.resident import make_resident
    from dit_prune_viz.masks.packed_mask import pack
    from dit_prune_viz.masks.scratch import Scratch
    from dit_prune_viz.masks.spread import gather
    from dit_prune_viz.pipelines.layers import list_layers

    scratch = Scratch()
    for layer in list_layers(transformer):
        module = transformer.get_submodule(layer.name)
        weight = module.weight.detach()
        mask = pack(torch.cat([rows.abs() > full_size.MEDIAN for rows in weight.split(64)]))
        make_resident(module, mask, gather(mask, weight), scratch)


def _memory(key: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def run_one(kind: str) -> dict[str, int]:
    """One call of a plain or a resident model in this process: bytes before the model, at rest and at the peak."""
    import diffusers
    import torch

    import dit_prune_viz.export.resident
    import dit_prune_viz.pipelines.layers

    full_size = _full_size(BLOCKS["memory"])
    # Libraries take theirs when they are first used.
    _ = diffusers.FluxTransformer2DModel, dit_prune_viz.export.resident, dit_prune_viz.pipelines.layers
    torch.nn.functional.linear(*(torch.zeros(64, 64, dtype=torch.bfloat16) for _ in range(2)))
    before = _memory("VmRSS")
    transformer = full_size._transformer()
    dense = sum(parameter.nbytes for parameter in transformer.parameters())
    if kind == "resident":
        _make_resident(full_size, transformer)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    rest = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    full_size._call(transformer)
    return {"before": before, "rest": rest, "peak": _memory("VmHWM"), "dense": dense}


def memory_ratio() -> dict | str:
    """Weights and what a call takes beside them and its activations, resident over plain."""
    if not Path("/proc/self/clear_refs").exists():
        return "needs Linux"
    found = {}
    for kind in ("plain", "resident"):
        command = [sys.executable, str(Path(__file__).resolve()), kind]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    plain, resident = found["plain"], found["resident"]
    activations = plain["peak"] - plain["rest"]
    value = (resident["peak"] - resident["before"] - activations) / (plain["rest"] - plain["before"])
    detail = {**found, "activations": activations}
    goal = f"≤ {MEMORY_GOAL}"
    return {"value": value, "unit": "×", "goal": goal, "held": value <= MEMORY_GOAL, "detail": detail}


def time_ratio() -> dict:
    """Seconds of a call of the resident model over those of the plain one, calls alternating on the CPU."""
    full_size = _full_size(BLOCKS["time"])
    models = {kind: full_size._transformer() for kind in ("plain", "resident")}
    _make_resident(full_size, models["resident"])
    seconds: dict[str, list[float]] = {kind: [] for kind in models}
    for _ in range(1 + TIMES):
        for kind, model in models.items():
            start = time.perf_counter()
            full_size._call(model)
            seconds[kind].append(time.perf_counter() - start)
    value = median(seconds["resident"][1:]) / median(seconds["plain"][1:])
    detail = {**seconds, "tokens": LATENT + TEXT}
    return {"value": value, "unit": "×", "goal": f"≤ {TIME_GOAL}", "held": value <= TIME_GOAL, "detail": detail}


BENCHMARKS = {"resident_memory_ratio": memory_ratio, "resident_time_ratio": time_ratio}

if __name__ == "__main__":
    print(json.dumps(run_one(sys.argv[1])))
