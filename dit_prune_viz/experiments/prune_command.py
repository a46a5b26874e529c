"""`dit-prune-viz prune`: prune a model by a recipe and say what it costs."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import add_cache_option, open_cache
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.levels import parse_level
from dit_prune_viz.experiments.progress import TerminalProgress, say
from dit_prune_viz.pipelines.dense_parts import dense_sentence
from dit_prune_viz.pipelines.load_settings import add_load_options, read_load_settings
from dit_prune_viz.pipelines.model import load
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.pruned_model import PrunedModel

_WORST = 10
"""Layers that are named, those with the most predicted damage."""


def add_prune(commands) -> list[argparse.ArgumentParser]:
    """Add the command to the parsers of a command line."""
    parser = commands.add_parser("prune", help="prune a model by a recipe and say what it costs")
    parser.set_defaults(do=_prune)
    add = parser.add_argument
    add("recipe", nargs="?", default="dit-pruning", help=f"{', '.join(NAMED_RECIPES)}, a saliency, or a .json file")
    add("--sparsity", help="in percent, or a pattern such as 2:4 (the recipe's own)")
    add_load_options(parser)
    add("--samples", type=int, help="calibration inputs (the recipe's own)")
    add("--calibration-seed", type=int, help="(the recipe's own)")
    add_cache_option(parser)
    add("--report", type=Path, metavar="FILE.json", help="write recipe and report there")
    return [parser]


def _prune(options: argparse.Namespace) -> None:
    recipe = find_recipe(options.recipe)
    if options.sparsity:
        recipe = parse_level(options.sparsity).of(recipe)
    asked = {"samples": options.samples, "seed": options.calibration_seed}
    settings = replace(recipe.calibration, **{name: value for name, value in asked.items() if value is not None})
    recipe = replace(recipe, calibration=settings)
    model = load(read_load_settings(options), tell=say)
    progress = TerminalProgress(silent=False, unit="steps")
    disk = open_cache(options.cache)
    statistics = Statistics(model, calibrate_for(model, recipe, progress, disk), disk=disk)
    pruned = prune(model, recipe, statistics=statistics, progress=progress)
    print(_summary(pruned))
    if options.report:
        _write(options.report, pruned)


def _summary(pruned: PrunedModel) -> str:
    report = pruned.report
    lines = [
        dense_sentence(pruned.model.dense_parts, pruned.model.parameters),
        f"{report.removed:,} of {report.weights:,} prunable weights removed ({100 * report.achieved:.4f} %), "
        f"{report.remaining:,} of {report.parameters:,} parameters left.",
        f"Predicted damage {100 * report.damage:.3f} %, in {pruned.seconds:.1f} s.",
        "",
        "| layer | ranked by | sparsity | predicted damage |",
        "|---|---|---|---|",
    ]
    for layer in sorted(report.layers, key=lambda layer: -layer.damage)[:_WORST]:
        share, damage = f"{100 * layer.sparsity:.2f} %", f"{100 * layer.damage:.3f} %"
        lines.append(f"| {layer.name} | {layer.granularity} | {share} | {damage} |")
    return "\n".join(lines)


def _write(path: Path, pruned: PrunedModel) -> None:
    report = pruned.report
    content = {
        "recipe": json.loads(pruned.recipe.to_json()),
        "model": pruned.model.name,
        "fingerprint": pruned.model.fingerprint,
        "also_prune": list(pruned.model.also_prune),
        "achieved": report.achieved,
        "remaining_parameters": report.remaining,
        "damage": report.damage,
        "layers": [vars(layer) for layer in report.layers],
    }
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
