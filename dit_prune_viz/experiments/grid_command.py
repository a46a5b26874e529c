"""`dit-prune-viz grid`: a grid of pictures over any two settings, with their scores, as one PNG."""

from __future__ import annotations

import argparse
from pathlib import Path

from dit_prune_viz.disk_cache import add_cache_option, open_cache
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.chosen_clip import load_chosen_clip
from dit_prune_viz.experiments.levels import Level, parse_level
from dit_prune_viz.experiments.progress import TerminalProgress, say
from dit_prune_viz.experiments.prune_command import calibrated_as_asked
from dit_prune_viz.experiments.xy_axes import EXAMPLES, KINDS, PROMPT, Axis
from dit_prune_viz.experiments.xy_grid import DrawnCell, by_recipe, draw_grid
from dit_prune_viz.experiments.xy_grid_file import read_grid, scores_in_words, write_grid
from dit_prune_viz.experiments.xy_plan import GridPlan, Start, plan_grid, starts_dense, usual_level
from dit_prune_viz.export.folders import check_target, new_file
from dit_prune_viz.export.part_files import own_files
from dit_prune_viz.formatting import size
from dit_prune_viz.generation.request import Request
from dit_prune_viz.pipelines.input_picture import read_picture
from dit_prune_viz.pipelines.load_settings import add_load_options, read_load_settings
from dit_prune_viz.pipelines.model import Model, load
from dit_prune_viz.pruning.named_recipes import DENSE, find_recipe
from dit_prune_viz.pruning.recipe import Recipe

_USUAL = "dit-pruning"
_BYTES_PER_PIXEL = 3
_EXAMPLES = """\
dit-prune-viz grid models/flux --x "sparsity: 30-70 by 20, 2:4" --y "recipe: magnitude, swap" --out grid.png
dit-prune-viz grid models/flux --x "block: none, 0-18" --y prompt --prompt "a cat" --prompt "a red bus" --out blocks.png
dit-prune-viz grid models/flux --repeat grid.png --out again.png

How values are written, by axis:
"""


def add_grid(commands) -> list[argparse.ArgumentParser]:
    """Add the command to the parsers of a command line."""
    lines = (f"  {kind}: {EXAMPLES[kind]}" for kind in KINDS if kind != PROMPT)
    parser = commands.add_parser(
        "grid",
        help="draw a grid of pictures over two settings, with scores, as one PNG",
        epilog="\n".join([_EXAMPLES + next(lines), *lines, "  prompt: a line each, or those of --prompt"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=_grid, stopped="stopped; nothing is written.")
    add = parser.add_argument
    add("what", nargs="?", metavar="MODEL", help="as --model takes it")
    add("--x", metavar="AXIS", help='columns: one of these with its values, such as "seed: 0-3": ' + ", ".join(KINDS))
    add("--y", metavar="AXIS", help="rows, in the same way")
    add("--out", type=Path, required=True, metavar="FILE.png", help="where the grid is written")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--repeat", type=Path, metavar="FILE.png", help="draw a grid again as its PNG says, instead of --x and --y")
    add("--recipe", help=f"present on an axis: a name, a saliency, a .json file, or dense ({_USUAL})")
    add("--sparsity", help="in percent, or a pattern such as 2:4 (the recipes' own)")
    add("--prompt", action="append", default=[], help="may be given several times for an axis (the model's first)")
    add("--seed", type=int, default=0, help="(0)")
    for name, kind in (("steps", int), ("guidance", float), ("height", int), ("width", int)):
        add(f"--{name}", type=kind, help="the model's default unless given")
    add("--frames", type=int, default=1, help="of a clip, for models that draw clips (1)")
    add("--picture", type=Path, help="what a model that changes a picture starts from (the bundled one)")
    add("--samples", type=int, help="calibration inputs (the recipe's own)")
    add("--calibration-seed", type=int, help="(the recipe's own)")
    add("--clip", help="folder or hub id of the CLIP that scores; none for no CLIP score")
    add_load_options(parser)
    add_cache_option(parser)
    return [parser]


def _grid(options: argparse.Namespace) -> None:
    if options.what and options.model:
        raise UserError(f"The model is given twice, as {options.what!r} and with --model; leave one of them out.")
    axes = None if options.repeat else (_axis(options.x, "--x", options), _axis(options.y, "--y", options))
    if options.repeat and (options.x or options.y):
        raise UserError("--repeat takes its axes from the PNG; leave --x and --y out.")
    if options.out.suffix.lower() != ".png":
        raise UserError(f"A grid is written as a PNG, but {options.out} does not end in .png; change its name.")
    check_target(options.out, overwrite=options.overwrite, folder=False)
    picture = read_picture(options.picture) if options.picture else None
    settings = read_load_settings(argparse.Namespace(**vars(options) | {"model": options.what or options.model}))
    model = load(settings, tell=say)
    check_target(options.out, overwrite=options.overwrite, keep=own_files(model), folder=False)
    plan = _plan(model, axes, options, picture) if axes else read_grid(options.repeat, model, picture)
    grid = draw_grid(
        model,
        plan,
        by_recipe(model, open_cache(options.cache)),
        clip=load_chosen_clip(options.clip, model),
        progress=TerminalProgress(silent=False, unit="steps"),
        emit=lambda drawn: print(_line(plan, drawn), flush=True),
    )
    pixels = sum(drawn.image.width * drawn.image.height for drawn in grid.drawn)
    with new_file(options.out, needs=_BYTES_PER_PIXEL * pixels, overwrite=options.overwrite) as part:
        write_grid(grid, model, part)
    print(f"Written: {options.out} ({size(options.out.stat().st_size)})")


def _axis(text: str | None, option: str, options: argparse.Namespace) -> Axis:
    if not text:
        raise UserError(f'A grid has two axes: give {option}, such as {option} "seed: 0-3", or --repeat FILE.png.')
    kind, _, values = text.partition(":")
    prompts = kind.strip().lower() in (PROMPT, f"{PROMPT}s") and not values.strip()
    return Axis.of(PROMPT, "\n".join(options.prompt)) if prompts else Axis.parse(text)


def _plan(model: Model, axes: tuple[Axis, Axis], options: argparse.Namespace, picture: bytes | None) -> GridPlan:
    level = parse_level(options.sparsity) if options.sparsity else None
    named = options.recipe or (DENSE if starts_dense(*axes) else _USUAL)
    recipe = None if named == DENSE else _recipe(model, named, level, options)
    request = Request(
        prompt=next(iter([*options.prompt, *model.defaults.prompts]), ""),
        seed=options.seed,
        steps=model.defaults.steps if options.steps is None else options.steps,
        guidance_scale=options.guidance,
        height=options.height,
        width=options.width,
        frames=options.frames,
        picture=picture,
    )
    calibration = calibrated_as_asked(Recipe() if recipe is None else recipe, options).calibration
    start = Start(request, recipe, usual_level(recipe) if level is None else level, calibration)
    return plan_grid(model, *axes, start)


def _recipe(model: Model, named: str, level: Level | None, options: argparse.Namespace) -> Recipe:
    recipe = find_recipe(named, model)
    return calibrated_as_asked(recipe if level is None else level.of(recipe), options)


def _line(plan: GridPlan, drawn: DrawnCell) -> str:
    cell = drawn.cell
    return f"{plan.rows.labels[cell.row]}, {plan.columns.labels[cell.column]}: {', '.join(scores_in_words(drawn))}"
