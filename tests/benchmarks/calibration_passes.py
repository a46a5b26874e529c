"""What calibration may save: masks from runs of fewer denoising steps, against those of 50 steps and another seed's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL.Image import Image

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.settings import FEW_STEPS
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.metrics.pictures import ssim
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

FULL = 50
RUNS = ((FULL, 0), (FULL, 1), (20, 0), (10, 0), (FEW_STEPS, 0), (FEW_STEPS, 1), (6, 0), (4, 0))
"""Denoising steps and seed of each calibration; all others are compared with the first."""
SPARSITIES = (0.5, 0.7)
PICTURES = 8


def calibration_passes() -> dict:
    """Weights that another calibration prunes, in percent: 8 steps against 50, relative to another seed against it."""
    model = load_model(ROOT / "assets/emoji-flux")
    dense = _draw(model, None)
    found: dict[tuple[int, int], dict] = {}
    first: dict[float, PrunedModel] = {}
    for steps, seed in RUNS:
        calibration = calibrate(model, steps=steps, seed=seed)
        line: dict[str, float] = {"passes": _passes(calibration)}
        for sparsity in SPARSITIES:
            pruned = prune(model, Recipe(sparsity=sparsity), statistics=Statistics(model, calibration))
            before = first.setdefault(sparsity, pruned)
            line[f"differ_{sparsity:g}"] = round(_differing(before.packed_masks, pruned.packed_masks), 2)
            line[f"ssim_{sparsity:g}"] = round(mean(map(ssim, dense, _draw(model, pruned))), 3)
        found[steps, seed] = line
    names = [f"differ_{sparsity:g}" for sparsity in SPARSITIES]
    value = max(found[FEW_STEPS, 0][name] / found[FULL, 1][name] for name in names)
    rows = [{"steps": steps, "seed": seed, **line} for (steps, seed), line in found.items()]
    return {
        "value": round(value, 3),
        "unit": "of two seeds' difference",
        "goal": "≤ 1",
        "held": value <= 1,
        "detail": rows,
        "markdown": markdown(rows),
    }


def markdown(rows: list[dict]) -> str:
    """The calibrations as a table."""
    lines = ["| steps | seed | passes | masks differ, 50 % | SSIM | masks differ, 70 % | SSIM |", "|" + "---|" * 7]
    for row in rows:
        shown = [f"{row[f'differ_{one:g}']:.2f} % | {row[f'ssim_{one:g}']:.3f}" for one in SPARSITIES]
        lines.append(f"| {row['steps']} | {row['seed']} | {row['passes']} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _passes(calibration: Calibration) -> int:
    """Forward passes of all runs, each of which ends after its last watched step, one run at a time."""
    return sum(1 + max(steps) for steps in calibration.need_draw().watched.values())


def _differing(one: Mapping[str, PackedMask], other: Mapping[str, PackedMask]) -> float:
    return 100 * sum(mask.differing(other[name]) for name, mask in one.items()) / sum(m.weights for m in one.values())


def _draw(model: Model, pruned: PrunedModel | None) -> list[Image]:
    prompts = model.defaults.prompts[-PICTURES:]
    requests = [check_request(model, Request(prompt=prompt, seed=7, steps=model.defaults.steps)) for prompt in prompts]
    return [picture.image for picture in draw_batch(model, requests, layers=pruned.layers if pruned else None)]


BENCHMARKS = {"calibration_passes": calibration_passes}
