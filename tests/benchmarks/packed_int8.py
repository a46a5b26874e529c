"""What rounding the kept weights to eight bits saves in a packed file, and what it costs in pictures, at 70 %.

    python tests/benchmarks/run.py --only packed_int8_ratio_70,packed_int8_ssim_loss

Pictures are compared with the dense model's from the same noise, both in bfloat16: 64 held-out prompts × 3 seeds.
"""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.prompts import split
from dit_prune_viz.experiments.run import run
from dit_prune_viz.export.packed_size import packed_bytes
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.named_recipes import NamedRecipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe

SPARSITY, PROMPTS, SEEDS, STEPS = 0.7, 64, (0, 1, 2), 8
RATIO, LOSS = 4.6, 0.005
ROUNDED = "round:8,row"
"""The update that does to the weights what `pack(..., values="int8")` does."""


@cache
def _model() -> Model:
    return load_model(ROOT / "assets/emoji-flux", device="cpu", dtype="bfloat16")


def ratio() -> dict:
    """The whole transformer in bfloat16 over its packed files with values in int8."""
    dense = sum(value.nbytes for value in _model().transformer.state_dict().values())
    pruned = prune(_model(), "dit-pruning", sparsity=SPARSITY)
    value = dense / packed_bytes(pruned, values="int8")
    detail = {"exact": dense / packed_bytes(pruned)}
    return {"value": value, "unit": "×", "goal": f"≥ {RATIO}", "held": value >= RATIO, "detail": detail}


def ssim_loss() -> dict:
    """The mean SSIM to the dense pictures that rounding loses, pruned in either case."""
    evaluated, calibration = split(_model().defaults.prompts, PROMPTS)
    recipes = NamedRecipe("packed", Recipe()), NamedRecipe("packed in int8", Recipe(update=ROUNDED))
    asked = Experiment(recipes, (Level(SPARSITY),), evaluated, calibration, SEEDS, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(_model(), asked, folder).rows
    found = {one.name: mean(row.mean("ssim") for row in rows if row.recipe == one.name) for one in recipes}
    value = found["packed"] - found["packed in int8"]
    detail = {**found, "prompts": PROMPTS, "seeds": len(SEEDS), "steps": STEPS}
    return {"value": value, "unit": "SSIM", "goal": f"≤ {LOSS}", "held": value <= LOSS, "detail": detail}


BENCHMARKS = {"packed_int8_ratio_70": ratio, "packed_int8_ssim_loss": ssim_loss}
