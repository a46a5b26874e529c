"""`dit-prune-viz prune`: prune a model by a recipe, say what it costs, and take the result away."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import add_cache_option, open_cache
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.levels import Level, parse_level
from dit_prune_viz.experiments.progress import TerminalProgress, say
from dit_prune_viz.experiments.take_away import add_take_away_options, read_take_away
from dit_prune_viz.formatting import percent
from dit_prune_viz.pipelines.dense_parts import dense_sentence
from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.load_settings import add_load_options, read_load_settings, split_hub_path
from dit_prune_viz.pipelines.model import Model, load
from dit_prune_viz.pipelines.pipeline_index import INDEX, MODULAR_INDEX
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import RecipeFile, parse_recipe, read_text
from dit_prune_viz.whole_file import write_whole

_WORST = 10
"""Layers that are named, those with the most predicted damage."""

_DEFAULT = "dit-pruning"
_WEIGHTS = (".safetensors", ".gguf")
_EXAMPLES = """\
dit-prune-viz prune models/flux --recipe swap --sparsity 60 --out flux-60 --as diffusers
dit-prune-viz prune models/flux --recipe mine.json --out flux-mine --as packed,single-file,recipe,report,numbers
dit-prune-viz prune swap --model models/flux --report swap.json

One way alone fills --out itself: a folder, or a file where --out ends as the file does. Several ways lie in --out as
diffusers/, packed/, numbers/, NAME-60.safetensors, recipe.json and report.html.
"""


def add_prune(commands) -> list[argparse.ArgumentParser]:
    """Add the command to the parsers of a command line."""
    parser = commands.add_parser(
        "prune",
        help="prune a model by a recipe, say what it costs, write the result",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=_prune, stopped="stopped; what is written is complete, and nothing of the rest is left.")
    add = parser.add_argument
    add("what", nargs="?", metavar="MODEL|RECIPE", help="a model, as --model takes it, or a recipe, as --recipe does")
    add("--recipe", metavar="FILE|NAME", help=f"{', '.join(NAMED_RECIPES)}, a saliency, or a .json file ({_DEFAULT})")
    add("--sparsity", help="in percent, or a pattern such as 2:4 (the recipe's own)")
    add(
        "--carry-over", action="store_true", help="of a recipe for another model, keep what fits, and say what does not"
    )
    add_load_options(parser)
    add("--samples", type=int, help="calibration inputs (the recipe's own)")
    add("--calibration-seed", type=int, help="(the recipe's own)")
    add_cache_option(parser)
    add("--report", type=Path, metavar="FILE.json", help="write recipe and counts there")
    add_take_away_options(parser)
    return [parser]


def _prune(options: argparse.Namespace) -> None:
    model_named, recipe_named = _named(options)
    settings = read_load_settings(argparse.Namespace(**vars(options) | {"model": model_named}))
    file = _recipe_file(recipe_named)
    recipe = find_recipe(recipe_named) if file is None else file.recipe
    level = parse_level(options.sparsity) if options.sparsity else None
    take_away = read_take_away(options, settings, _short(level, recipe))
    model = load(settings, tell=say)
    if take_away is not None:
        take_away.check(model)
    if file is not None:
        carried = file.fit(model, carry_over=options.carry_over)
        recipe = carried.recipe
        for dropped in carried.dropped:
            say(f"Left out: {dropped}")
    recipe = calibrated_as_asked(recipe if level is None else level.of(recipe), options)
    pruned = _pruned(model, recipe, options)
    print(_summary(pruned))
    if options.report:
        _write(options.report, pruned)
    if take_away is not None:
        print()
        take_away.write(pruned)


def _named(options: argparse.Namespace) -> tuple[str | None, str]:
    """What the model and the recipe are called; either may be the one word without an option.

    Raises:
        UserError: one of them is named twice.
    """
    what, model, recipe = options.what, options.model, options.recipe
    if what is None:
        return model, recipe or _DEFAULT
    if model and recipe:
        raise UserError(f"Both a model and a recipe are given, and {what!r} too; leave one of them out.")
    if model or (not recipe and not _is_model(what)):
        return model, what
    return what, recipe or _DEFAULT


def _is_model(what: str) -> bool:
    """Whether a word names a model: a file of weights, a pipeline's folder, or a hub id, but no recipe of that name."""
    path = local_path(what)
    if path is not None and path.is_dir():
        return what not in NAMED_RECIPES or any((path / index).is_file() for index in (INDEX, MODULAR_INDEX))
    return what.endswith(_WEIGHTS) or (not what.endswith(".json") and is_hub_id(split_hub_path(what)[0]))


def _recipe_file(named: str) -> RecipeFile | None:
    """What a recipe's file says; None where a recipe is named. UserError if it cannot be read or holds no recipe."""
    path = local_path(named)
    if named in NAMED_RECIPES or not (named.endswith(".json") or (path is not None and path.is_file())):
        return None
    return parse_recipe(read_text(named))


def _short(level: Level | None, recipe: Recipe) -> str:
    """What a model is pruned to, for the name of a file."""
    if level is not None:
        return level.pattern.replace(":", "of") or f"{100 * level.sparsity:g}"
    return f"{100 * recipe.sparsity:g}"


def calibrated_as_asked(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the calibration that --samples and --calibration-seed ask for; what is not given stays."""
    asked = {"samples": options.samples, "seed": options.calibration_seed}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(recipe, calibration=replace(recipe.calibration, **given)) if given else recipe


def _pruned(model: Model, recipe: Recipe, options: argparse.Namespace) -> PrunedModel:
    progress = TerminalProgress(silent=False, unit="steps")
    disk = open_cache(options.cache)
    statistics = Statistics(model, calibrate_for(model, recipe, progress, disk), disk=disk)
    return prune(model, recipe, statistics=statistics, progress=progress)


def _summary(pruned: PrunedModel) -> str:
    report = pruned.report
    lines = [
        dense_sentence(pruned.model.dense_parts, pruned.model.parameters),
        f"{report.removed:,} of {report.weights:,} prunable weights removed ({percent(report.achieved)}), "
        f"{report.remaining:,} of {report.parameters:,} parameters left.",
        f"Predicted damage {percent(report.damage)}, in {pruned.seconds:.1f} s.",
        "",
        "| layer | ranked by | sparsity | predicted damage |",
        "|---|---|---|---|",
    ]
    for layer in sorted(report.layers, key=lambda layer: -layer.damage)[:_WORST]:
        share, damage = percent(layer.sparsity), percent(layer.damage)
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
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
