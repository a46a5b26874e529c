"""Is predicted damage worth trusting? 200 random plans on the bundled model, predicted against measured.

python tests/benchmarks/damage.py --write assets/damage.json [--plans 200]   measures, and keeps the plans for the page.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.experiments.prompts import split
from dit_prune_viz.experiments.requests import requests_for
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.report import summarize
from dit_prune_viz.pruning.scores import Scores

PLANS, PICTURES, STEPS = 200, 4, 10
METHODS = ("magnitude", "wanda", "dit-pruning", "stw:1.5,1")
SORTS = ("same sparsity everywhere", "random per layer", "random per kind of layer")
GOAL = 0.85


def random_plans(statistics: Statistics, count: int, seed: int = 0):
    """(sort, plan) pairs: a random method, a random sparsity of 20–80 %, and layers around it by a random amount."""
    rng = np.random.default_rng(seed)
    model = statistics.model
    bases = [rank(find_recipe(method), statistics).plan for method in METHODS]
    kinds = list(dict.fromkeys(layer.kind for layer in model.layers))
    for place in range(count):
        plan, sparsity = bases[rng.integers(len(bases))], rng.uniform(0.2, 0.8)
        sort, width = SORTS[place % len(SORTS)], rng.uniform(0.3, 1.2)
        by_layer, by_kind = (
            rng.normal(size=len(model.layers)),
            dict(zip(kinds, rng.normal(size=len(kinds)), strict=True)),
        )
        for layer, own in zip(model.layers, by_layer, strict=True):
            shift = {SORTS[0]: 0.0, SORTS[1]: own, SORTS[2]: by_kind[layer.kind]}[sort]
            logit = np.log(sparsity / (1 - sparsity)) + width * shift
            plan = plan.with_layer(replace(plan.layer(layer.name), sparsity=float(1 / (1 + np.exp(-logit)))))
        yield sort, plan


def measure_plans(model: Model, count: int = PLANS, pictures: int = PICTURES, steps: int = STEPS) -> list[dict]:
    """Of every plan its sort, exact sparsity, predicted damage and the mean squared error of the finished latents."""
    prompts, rest = split(model.defaults.prompts, pictures)
    requests = requests_for(model, prompts, 0, Request("", 0, steps))
    statistics = Statistics(model, calibrate(model, prompts=rest))
    dense = torch.stack([picture.latents for picture in draw_batch(model, requests)])
    found = []
    for sort, plan in random_plans(statistics, count):
        masks = build_masks(plan, Scores(plan.recipe, statistics))
        report = summarize(plan, masks, model.weight, statistics.mean_square)
        layers = {name: PrunedLayer(mask) for name, mask in masks.items()}
        latents = torch.stack([picture.latents for picture in draw_batch(model, requests, layers=layers)])
        error = float((latents - dense).double().square().mean())
        found.append({"sort": sort, "sparsity": report.achieved, "predicted": report.damage, "measured": error})
        if len(found) % 10 == 0:
            print(f"{len(found)} of {count} plans", file=sys.stderr, flush=True)
    return found


def correlation(plans: list[dict]) -> float:
    """Spearman's rank correlation of predicted and measured."""
    return float(spearmanr([p["predicted"] for p in plans], [p["measured"] for p in plans]).statistic)


def beyond_sparsity(plans: list[dict]) -> float:
    """The rank correlation that is left when sparsity, which raises both, is held fixed (partial correlation)."""
    given = rankdata([plan["sparsity"] for plan in plans])
    rests = []
    for name in ("predicted", "measured"):
        ranks = rankdata([plan[name] for plan in plans])
        rests.append(ranks - np.polyval(np.polyfit(given, ranks, 1), given))
    return float(np.corrcoef(*rests)[0, 1])


def damage_spearman(count: int = PLANS) -> dict:
    """The benchmark."""
    start = time.perf_counter()
    plans = measure_plans(load_model(ROOT / "assets/emoji-flux", device="cpu", dtype="float32"), count)
    value = correlation(plans)
    return {
        "value": value,
        "unit": "Spearman",
        "goal": f"≥ {GOAL}",
        "held": value >= GOAL,
        "detail": {
            "plans": len(plans),
            "by sort": {sort: correlation([plan for plan in plans if plan["sort"] == sort]) for sort in SORTS},
            "of sparsity alone": float(
                spearmanr([plan["sparsity"] for plan in plans], [plan["measured"] for plan in plans]).statistic
            ),
            "with sparsity held fixed": beyond_sparsity(plans),
            "pictures": PICTURES,
            "steps": STEPS,
            "seconds": time.perf_counter() - start,
        },
    }


BENCHMARKS = {"damage_spearman": damage_spearman}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True)
    parser.add_argument("--plans", type=int, default=PLANS)
    options = parser.parse_args()
    model = load_model(ROOT / "assets/emoji-flux", device="cpu", dtype="float32")
    plans = measure_plans(model, options.plans)
    content = {"fingerprint": model.fingerprint, "spearman": correlation(plans), "plans": plans}
    options.write.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"Spearman {content['spearman']:.3f}, {beyond_sparsity(plans):.3f} with sparsity held fixed")


if __name__ == "__main__":
    main()
