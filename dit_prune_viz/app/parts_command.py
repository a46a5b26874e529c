"""`dit-prune-viz parts`: which part of a model does what, as one PNG and a JSON file, without the app."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dit_prune_viz.app.session import parts_file
from dit_prune_viz.app.session.analyzer import Finding, find_all
from dit_prune_viz.app.session.comparison import MAX_PROMPTS, check_prompts
from dit_prune_viz.app.session.drawn_model import ONLY, WITHOUT
from dit_prune_viz.app.session.layer_groups import group_layers
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.parts import BLOCKS, GROUPS, KINDS_OF_LAYERS, parts_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.algorithms import ALGORITHMS
from dit_prune_viz.disk_cache import add_cache_option, open_cache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.chosen_clip import choose_clip
from dit_prune_viz.experiments.progress import TerminalProgress, say
from dit_prune_viz.export.folders import check_target, new_file
from dit_prune_viz.export.part_files import own_files
from dit_prune_viz.formatting import size
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.input_picture import read_picture
from dit_prune_viz.pipelines.load_settings import LoadSettings, add_load_options, read_load_settings
from dit_prune_viz.plugins import add_plugin_option

_EXAMPLES = """\
dit-prune-viz parts --out blocks.png
dit-prune-viz parts models/flux --by kind --prompt "a red bus" --steps 20 --out kinds.png
dit-prune-viz parts models/flux --by kmeans --groups 5 --keep --out groups.png
"""
_BYTES_PER_PIXEL = 3


def main(arguments: Sequence[str], program: str) -> int:
    """Run the command; returns the exit status."""
    try:
        options = _parser(program).parse_args(arguments)
        with telling_of_memory():
            _parts(options)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        print("stopped; nothing is written.", file=sys.stderr)
        return 130
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Take each part of a model away alone, or keep it alone, and see what changes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", nargs="?", metavar="MODEL", help="as --model takes it (the bundled model)")
    add("--out", type=Path, required=True, metavar="FILE.png", help="the pictures; the numbers go beside it, as .json")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--by", choices=(BLOCKS, KINDS_OF_LAYERS, *ALGORITHMS), default=BLOCKS, help="what a part is (%(default)s)")
    add("--groups", type=int, help="how many groups an algorithm finds; it chooses unless given")
    add("--part", action="append", default=[], help='such as "block 3"; may be given several times (all)')
    add("--keep", action="store_true", help="keep each part alone instead of removing it")
    add("--sparsity", type=float, default=100, help="in percent, of what is pruned (100)")
    add("--prompt", action="append", default=[], help=f"up to {MAX_PROMPTS} (the model's first)")
    add("--seed", type=int, default=0, help="(0)")
    add("--steps", type=int, help="the model's default unless given")
    add("--frames", type=int, default=1, help="of a clip, for models that draw clips (1)")
    add("--picture", type=Path, help="what a model that changes a picture starts from (the bundled one)")
    add("--samples", type=int, default=128, help="calibration inputs (%(default)s)")
    add("--calibration-seed", type=int, default=0, help="(0)")
    add("--clip", help="folder or hub id of the CLIP that scores")
    add_load_options(parser)
    add_cache_option(parser)
    add_plugin_option(parser)
    return parser


def _parts(options: argparse.Namespace) -> None:
    if options.what and options.model:
        raise UserError(f"The model is given twice, as {options.what!r} and with --model; leave one of them out.")
    if options.out.suffix.lower() != ".png":
        raise UserError(f"The pictures are written as a PNG, but {options.out} does not end in .png; change its name.")
    targets = options.out, options.out.with_suffix(".json")
    for target in targets:
        check_target(target, overwrite=options.overwrite, folder=False)
    picture = read_picture(options.picture) if options.picture else None
    settings = read_load_settings(argparse.Namespace(**vars(options) | {"model": options.what or options.model}))
    progress = TerminalProgress(silent=False, unit="steps")
    session = _session(settings, options, progress)
    for target in targets:
        check_target(target, overwrite=options.overwrite, keep=own_files(session.model), folder=False)
    by = options.by if options.by in (BLOCKS, KINDS_OF_LAYERS) else GROUPS
    if by == GROUPS:
        session = group_layers(session, options.by, options.groups)
    parts = parts_of(session, by, chosen=options.part)
    defaults = session.model.defaults
    steps = defaults.steps if options.steps is None else options.steps
    prompts = options.prompt or list(defaults.prompts[:1])
    found = find_all(
        session,
        parts,
        check_prompts(session.model, prompts, options.seed, steps, options.frames, picture),
        mode=ONLY if options.keep else WITHOUT,
        sparsity=options.sparsity / 100,
        emit=lambda one: print(_line(one), flush=True),
        progress=progress,
    )
    sheet, text = parts_file.sheet(found), json.dumps(parts_file.values_of(found), indent=1, ensure_ascii=False)
    with new_file(targets[0], needs=_BYTES_PER_PIXEL * sheet.width * sheet.height, overwrite=options.overwrite) as file:
        sheet.save(file, "PNG")
    with new_file(targets[1], needs=2 * len(text), overwrite=options.overwrite) as file:
        file.write_text(f"{text}\n", encoding="utf-8")
    print("Written: " + ", ".join(f"{target} ({size(target.stat().st_size)})" for target in targets))


def _session(settings: LoadSettings, options: argparse.Namespace, progress: TerminalProgress) -> Session:
    """The model, calibrated; pruned as well where weights have to be ranked."""
    clip, name = choose_clip(options.clip, settings.model)
    store = ModelStore(clip=clip, clip_name=name, load=settings, disk=open_cache(options.cache))
    say(f"Loading {settings.model}")
    session = Session(store).load_model(settings)
    if options.sparsity != 100:
        return session.calibrate(options.samples, options.calibration_seed, progress)
    asked = {"samples": options.samples, "seed": options.calibration_seed}
    return session.calibrate_as(replace(session.recipe.calibration, **asked), progress)


def _line(finding: Finding) -> str:
    done = finding.comparison
    told = f"{finding.drawn.name}: {done.told}, SSIM {done.ssim:.3f}"
    if finding.error is not None and finding.damage is not None:
        told += f", measured error {100 * finding.error:.3g} %, predicted damage {100 * finding.damage:.3g} %"
    return told
