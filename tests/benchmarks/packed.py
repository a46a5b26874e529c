"""The packed format on the bundled model in bfloat16: how much smaller, and how fast in and out."""

from __future__ import annotations

import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.packed_files import read_header, read_packed
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel

RATIOS = {50: 2.6, 70: 3.9}
PACK_MB_S, UNPACK_MB_S = 60, 250
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


BENCHMARKS = {
    "packed_ratio_50": lambda: _ratio(50),
    "packed_ratio_70": lambda: _ratio(70),
    "pack_mb_s": pack_mb_s,
    "unpack_mb_s": unpack_mb_s,
}
