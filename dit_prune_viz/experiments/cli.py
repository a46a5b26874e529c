"""Measure ways to prune a model against each other: methods × sparsities × prompts × seeds.

Several GPUs: accelerate launch -m dit_prune_viz sweep …
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dit_prune_viz.checks import brief
from dit_prune_viz.disk_cache import add_cache_option, open_cache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.categories import by_category, markdown_by_category
from dit_prune_viz.experiments.chosen_clip import load_chosen_clip
from dit_prune_viz.experiments.convergence import SIZES
from dit_prune_viz.experiments.convergence_table import convergence_table, find_convergence
from dit_prune_viz.experiments.experiment import DESCRIPTION, Experiment, read_description, with_seeds
from dit_prune_viz.experiments.export import export
from dit_prune_viz.experiments.grid_command import add_grid
from dit_prune_viz.experiments.levels import parse_level, parse_levels
from dit_prune_viz.experiments.models_command import add_models
from dit_prune_viz.experiments.placement_command import add_placement
from dit_prune_viz.experiments.presets import PRESETS, Preset, find_preset
from dit_prune_viz.experiments.processes import processes
from dit_prune_viz.experiments.progress import TerminalProgress, say
from dit_prune_viz.experiments.prompts import PromptSet, held_out, read_prompts, split
from dit_prune_viz.experiments.prune_command import add_prune
from dit_prune_viz.experiments.results import Results, Row, destroyed_sentences, unread_sentences
from dit_prune_viz.experiments.run import RESULTS, run
from dit_prune_viz.experiments.table import COLUMNS, markdown, savings, tabulate
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.input_picture import read_picture
from dit_prune_viz.pipelines.load_settings import add_load_options, read_load_settings
from dit_prune_viz.pipelines.model import Model, load
from dit_prune_viz.plugins import add_plugin_option, load_plugins
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, SWEEPS, find_recipes, parse_named_recipe
from dit_prune_viz.resources import BUNDLED_MODEL

_STOPPED = "stopped; finished cells are kept, the same command goes on from there."
_DRAWING = ("steps", "guidance", "height", "width")
_USUAL = {
    "methods": "magnitude,wanda,dit-pruning",
    "sparsities": "30,50,70,2:4",
    "seeds": 3,
    "first_seed": 0,
}
_PRESET_OPTIONS = ("model", "methods", "sparsities", "seeds", "first_seed", "clip", *_DRAWING)
_FEW = 64


def main(arguments: Sequence[str] | None = None, program: str = "python -m dit_prune_viz.experiments") -> int:
    """Run the command; returns the exit status."""
    options = argparse.Namespace()
    try:
        arguments = load_plugins(sys.argv[1:] if arguments is None else arguments)
        if arguments[:1] == ["run"]:  # what `sweep` was called before
            arguments[0] = "sweep"
        options = _parser(program).parse_args(arguments)
        with telling_of_memory():
            options.do(options)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        print(getattr(options, "stopped", _STOPPED), file=sys.stderr)
        return 130
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    added = (
        add_prune,
        add_grid,
        _add_sweep,
        _add_table_and_export,
        _add_converge,
        _add_list,
        add_models,
        add_placement,
    )
    for add_command in added:
        for command in add_command(commands):
            add_plugin_option(command)
    return parser


def _add_sweep(commands) -> list[argparse.ArgumentParser]:
    sweeps = commands.add_parser(
        "sweep", help="measure methods × sparsities × prompts × seeds; goes on where it stopped"
    )
    sweeps.set_defaults(do=_sweep)
    add = sweeps.add_argument
    add("--out", type=Path, required=True, help="folder of the results")
    add("--preset", help=f"settings of a table of the paper, other options go first: {', '.join(PRESETS)}")
    add_load_options(sweeps, device=None)
    add("--methods", help=f"of {', '.join([*NAMED_RECIPES, *SWEEPS])} (magnitude,wanda,dit-pruning)")
    add("--recipe", action="append", default=[], help="one of your own: 'NAME: saliency=wanda granularity=row'")
    add("--sparsities", help="in percent, and patterns (30,50,70,2:4)")
    add("--prompts", type=int, help="how many prompts (64, or all of a smaller set)")
    add("--prompt-set", type=Path, help="file or folder: a prompt a line, CSV/TSV, JSON, JSON lines")
    add("--prompt-seed", type=int, default=0, help="draws the prompts from the set")
    add("--seeds", type=int, help="how many noises per prompt (3)")
    add("--first-seed", type=int, help="(0)")
    for name, kind in (("steps", int), ("guidance", float), ("height", int), ("width", int)):
        add(f"--{name}", type=kind, help="the model's default unless given")
    add("--frames", type=int, default=1, help="of a clip, for models that draw clips (1)")
    add("--picture", type=Path, help="what a model that changes a picture starts from (the bundled one)")
    add("--samples", type=int, default=128, help="calibration inputs")
    add("--calibration-seed", type=int, default=0)
    add("--clip", help="folder or hub id of the CLIP that scores; none for no CLIP score")
    add("--batch", type=int, help="pictures drawn at a time")
    add("--pictures", type=Path, help="folder of the dense pictures (OUT/dense)")
    add_cache_option(sweeps)
    return [sweeps]


def _add_table_and_export(commands) -> list[argparse.ArgumentParser]:
    added = []
    for name, do, words in (("table", _table, "print what a folder holds"), ("export", _export, "write its files")):
        shows = commands.add_parser(name, help=words)
        shows.set_defaults(do=do)
        shows.add_argument("--out", type=Path, required=True)
        added.append(shows)
    return added


def _add_converge(commands) -> list[argparse.ArgumentParser]:
    converges = commands.add_parser("converge", help="how much the masks change with more calibration samples")
    converges.set_defaults(do=_converge)
    add = converges.add_argument
    add_load_options(converges)
    add("--methods", default="dit-pruning", help=f"of {', '.join([*NAMED_RECIPES, *SWEEPS])} (dit-pruning)")
    add("--recipe", action="append", default=[], help="one of your own: 'NAME: saliency=wanda granularity=row'")
    add("--sparsity", default="50", help="in percent, or a pattern such as 2:4 (50)")
    add("--sizes", default=",".join(map(str, SIZES)), help="numbers of samples (%(default)s)")
    add("--calibration-seed", type=int, default=0)
    add_cache_option(converges)
    return [converges]


def _add_list(commands) -> list[argparse.ArgumentParser]:
    lists = commands.add_parser("list", help="name methods and presets")
    lists.set_defaults(do=_list)
    return [lists]


def _fill_in(options: argparse.Namespace) -> Preset | None:
    """Give every option that was left out the preset's value, else the usual one."""
    preset = find_preset(options.preset) if options.preset else None
    for name in _PRESET_OPTIONS:
        if getattr(options, name) is None:
            setattr(options, name, getattr(preset, name) if preset else _USUAL.get(name))
    return preset


def _sweep(options: argparse.Namespace) -> None:
    preset = _fill_in(options)
    crew = processes()
    if crew.main and crew.count > 1:
        print(f"{crew.count} processes share the work.", file=sys.stderr)
    recipes = find_recipes(options.methods) + tuple(parse_named_recipe(text) for text in options.recipe)
    levels = parse_levels(options.sparsities)
    options.model or str(BUNDLED_MODEL)
    settings = read_load_settings(options)
    if options.device is None:
        settings = replace(settings, device=crew.device)
    model = load(settings, tell=say if crew.main else None)
    prompts, calibration_prompts = _prompts(model, options, preset, say if crew.main else None)
    experiment = Experiment(
        recipes=recipes,
        levels=levels,
        prompts=prompts.prompts,
        categories=prompts.categories,
        calibration_prompts=calibration_prompts,
        steps=options.steps,
        guidance_scale=options.guidance,
        height=options.height,
        width=options.width,
        frames=options.frames,
        picture=read_picture(options.picture) if options.picture else None,
        samples=options.samples,
        calibration_seed=options.calibration_seed,
    )
    experiment = with_seeds(experiment, options.seeds, options.first_seed)
    talk = TerminalProgress(silent=not crew.main)
    outcome = run(
        model,
        experiment,
        options.out,
        clip=load_chosen_clip(options.clip, model),
        pictures=options.pictures,
        batch=options.batch,
        progress=talk,
        on_row=talk.row,
        processes=crew,
        cache=open_cache(options.cache),
    )
    if crew.main:
        if outcome.notice:
            print(outcome.notice, file=sys.stderr)
        _show(outcome.rows, experiment.categories)
        _show_published(preset)
        paths = export(outcome.rows, read_description(options.out), options.out)
        print("\nWritten: " + ", ".join(str(path) for path in paths))


def _prompts(
    model: Model, options: argparse.Namespace, preset: Preset | None, tell: Callable[[str], None] | None
) -> tuple[PromptSet, tuple[str, ...]]:
    """(evaluation, calibration) prompts, none in both; `tell` hears what a prompt file holds."""
    own = model.defaults.prompts
    chosen = read_prompts(options.prompt_set) if options.prompt_set else preset.own_prompts() if preset else None
    if chosen is None and preset:
        raise UserError(f"The preset {preset.name} needs prompts: give --prompt-set with {preset.prompt_source}.")
    if chosen is None:
        prompts, calibration = split(own, _FEW if options.prompts is None else options.prompts, options.prompt_seed)
        return PromptSet(prompts), calibration
    if options.prompt_set and tell:
        tell(f"{options.prompt_set}: {chosen.summary}")
    usual = preset.prompts if preset else min(_FEW, len(chosen.prompts) - chosen.duplicates)
    count = usual if options.prompts is None else options.prompts
    prompts = chosen.draw(count, options.prompt_seed)
    return prompts, held_out(own, prompts.prompts)


def _table(options: argparse.Namespace) -> None:
    results = Results(options.out / RESULTS)
    if results.notice:
        print(results.notice, file=sys.stderr)
    if not results.rows:
        raise UserError(f"{options.out} has no results yet; run an experiment into it first.")
    told = read_description(options.out) if (options.out / DESCRIPTION).is_file() else {}
    for name in dict.fromkeys(row.experiment for row in results.rows):
        print(f"\nExperiment {name}")
        _show(results.of(name), told.get("categories", ()) if told.get("digest") == name else ())


def _export(options: argparse.Namespace) -> None:
    description = read_description(options.out)
    rows = Results(options.out / RESULTS).of(description.get("digest", ""))
    if not rows:
        raise UserError(f"{options.out} has no results yet; run an experiment into it first.")
    print("Written: " + ", ".join(str(path) for path in export(rows, description, options.out)))


def _show(rows: Sequence[Row], categories: Sequence[str] = ()) -> None:
    lines = tabulate(rows)
    for line in lines:
        if line.recipe == "dense" and (clip := line.figures["clip"]):
            print(f"\nDense: CLIP {clip.text(2)}; {line.prompts} prompts, {line.seeds} seeds.")
    for score in COLUMNS:
        if any(line.figures[score] for line in lines if line.recipe != "dense"):
            print("\n" + markdown(lines, score))
    for score, digits in (("clip", 2), ("ssim", 3)):
        parts = [line for line in by_category(rows, categories, score) if line.changes]
        if parts:
            print("\n" + markdown_by_category(parts, digits))
    if saved := savings(lines):
        print("\nWhat it saves, in bytes of the transformer as it would be stored:\n\n" + saved)
    for sentence in (*unread_sentences(rows[0]), *destroyed_sentences(rows)):
        print("\n" + sentence)


def _converge(options: argparse.Namespace) -> None:
    recipes = find_recipes(options.methods) + tuple(parse_named_recipe(text) for text in options.recipe)
    level, sizes = parse_level(options.sparsity), _sizes(options.sizes)
    disk = open_cache(options.cache)
    model = load(read_load_settings(options), tell=say)
    for named in recipes:
        talk = TerminalProgress(silent=False, unit="steps")
        recipe, seed = level.of(named.recipe), options.calibration_seed
        found = find_convergence(recipe, model, sizes=sizes, seed=seed, disk=disk, progress=talk)
        print(f"\n{named.name} at {level.label}, {model.prunable_parameters:,} weights\n")
        print(convergence_table(found))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"Numbers of samples are written as 16,32,64, not {brief(text)}.") from None


def _list(options: argparse.Namespace) -> None:
    for named in NAMED_RECIPES.values():
        settings = ", ".join(f"{name} {_spelled(value)}" for name, value in named.recipe.changes.items())
        print(f"{named.name}: {named.explanation} ({settings or 'all defaults'})")

    for preset in PRESETS.values():
        print(f"preset {preset.name}: {preset.words}; {preset.prompts:,} prompts ({preset.prompt_source})")


def _spelled(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _show_published(preset: Preset | None) -> None:
    if preset and preset.published:
        print("\nPublished (arXiv 2607.00927), CLIP as a cosine: ", end="")
        cells = (f"{c} {level} {scores}" for (c, level), scores in preset.published.items())
        print("; ".join(cells))
