"""Golden record: a digest of every layer's mask, new weights and new bias, for each named recipe.

    python tests/benchmarks/golden.py FILE                   writes the record
    python tests/benchmarks/golden.py FILE --against OTHER   compares it with an earlier one

The bundled model in float32, 32 calibration inputs, at 50 % and 2:4 where a recipe takes patterns; masks are distilled
in 8 steps. Digests hold for one kind of processor, so records are compared on one machine and not kept with the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.resources import BUNDLED_MODEL

FEW_STEPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    record = make_record()
    options.file.write_text(json.dumps(record))
    if options.against:
        other = json.loads(options.against.read_text())
        for name in sorted({*record, *other}):
            state = "equal" if record.get(name) == other.get(name) else "DIFFERS"
            missing = "" if name in record and name in other else " (in one record only)"
            print(f"{name}: {state}{missing}")


def make_record() -> dict[str, dict[str, list[str | None]]]:
    """recipe@sparsity → layer → digests of mask, values and bias."""
    model = load_model(BUNDLED_MODEL, device="cpu", dtype="float32")
    statistics = Statistics(model, calibrate(model, samples=32, seed=0))
    record = {}
    for named in NAMED_RECIPES.values():
        for sparsity in (0.5, "2:4"):
            recipe = _shortened(named.recipe)
            if isinstance(sparsity, str) and not recipe.takes_patterns:
                continue
            start = time.perf_counter()
            pruned = prune(model, recipe, sparsity=sparsity, statistics=statistics)
            name = f"{named.name}@{sparsity if isinstance(sparsity, str) else 50}"
            record[name] = {
                layer: [made.mask.digest, _digest(made.values), _digest(made.bias)]
                for layer, made in pruned.layers.items()
            }
            print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return record


def _shortened(recipe: Recipe) -> Recipe:
    search = tuple(f"distil:{FEW_STEPS}" if spec.startswith("distil") else spec for spec in recipe.search)
    return replace(recipe, search=search)


def _digest(values: torch.Tensor | None) -> str | None:
    if values is None:
        return None
    return hashlib.sha256(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    main()
