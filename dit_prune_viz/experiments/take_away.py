"""Where a command writes what it has pruned, in which ways, and that nothing stands in its place."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dit_prune_viz.checks import brief, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.chosen_clip import load_chosen_clip
from dit_prune_viz.experiments.progress import TerminalProgress
from dit_prune_viz.export.folders import bytes_at, check_space, check_target
from dit_prune_viz.export.part_files import own_files
from dit_prune_viz.export.report_parts.pairs import FEW, MOST, draw_pairs
from dit_prune_viz.export.single_file import check_single_file, file_names
from dit_prune_viz.export.ways import WAYS, export, sizes
from dit_prune_viz.formatting import size
from dit_prune_viz.pipelines.load_settings import LoadSettings, split_hub_path
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pruning.pruned_model import PrunedModel

_SINGLE = "single-file"
_NAMES = {"recipe": "recipe.json", "report": "report.html"}
_USUAL = "diffusers"


def add_take_away_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written and where."""
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER", help="write the pruned model there")
    add("--as", dest="ways", metavar="WAYS", help=f"how, of {','.join(WAYS)} ({_USUAL})")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--values", metavar="TYPE", help="of a packed folder: int8 is smaller, and not without loss")
    add(
        "--pictures",
        type=int,
        default=FEW,
        help="prompts that are drawn for a report, dense and pruned (%(default)s)",
    )
    add("--clip", help="folder or hub id of the CLIP that scores a report's pictures; none for no score")


@dataclass(frozen=True)
class TakeAway:
    """What will be written.

    Attributes:
        places: way → path.
        overwrite: whether it may replace what is there.
        packing: further options of `pack`.
        pictures: how many prompts are drawn for a report.
        clip: that scores them, as `load_chosen_clip` takes it.
    """

    places: Mapping[str, Path]
    overwrite: bool
    packing: Mapping[str, object]
    pictures: int = 0
    clip: str | None = None

    def check(self, model: Model | None = None) -> None:
        """Refuse what could not be written later on, which may be hours.

        Args:
            model: as soon as it is loaded.

        Raises:
            UserError: something stands there already, or the model cannot be written so.
        """
        if model is not None and _SINGLE in self.places:
            check_single_file(model)
        keep = () if model is None else own_files(model)
        for way, place in self.places.items():
            places = [place] if model is None or way != _SINGLE else self._files(model).values()
            for one in places:
                check_target(one, overwrite=self.overwrite, keep=keep, folder=not WAYS[way].suffix)

    def write(self, pruned: PrunedModel) -> None:
        """Say what each way needs, write one after the other, and say what was written."""
        expected = sizes(pruned)
        needs = {way: expected.get(way, 0) for way in self.places}
        for way, place in self.places.items():
            told = f", {size(needs[way])}" if needs[way] else ""
            print(f"To be written: {place}, {WAYS[way].title}{told}.", flush=True)
        for place in self.places.values():
            check_space(place, sum(needs.values()))
        for way, place in self.places.items():
            for path in self._written(pruned, way, place):
                print(f"Written: {path} ({size(bytes_at(path))})", flush=True)

    def _written(self, pruned: PrunedModel, way: str, place: Path) -> Iterator[Path]:
        progress = TerminalProgress(silent=False, unit="steps")
        if way != _SINGLE:
            options = self._options(pruned, way, progress)
            yield export(pruned, place, way, overwrite=self.overwrite, progress=progress, **options)
            return
        for part, path in self._files(pruned.model).items():
            yield export(pruned, path, way, overwrite=self.overwrite, progress=progress, part=part)

    def _options(self, pruned: PrunedModel, way: str, progress: TerminalProgress) -> Mapping[str, object]:
        if way == "packed":
            return self.packing
        if way != "report" or not self.pictures:
            return {}
        model = pruned.model
        clip = load_chosen_clip(self.clip, model)
        prompts = model.defaults.prompts[: self.pictures]
        return {"pictures": draw_pairs(model, pruned, prompts, clip=clip, progress=progress)}

    def _files(self, model: Model) -> dict[str, Path]:
        place = self.places[_SINGLE]
        return {part: place.with_name(name) for part, name in file_names(model, place.stem).items()}


def read_take_away(options: argparse.Namespace, settings: LoadSettings, level: str) -> TakeAway | None:
    """What the options of a command ask for; None where nothing is to be written.

    Args:
        options: parsed, see `add_take_away_options`.
        settings: of the model, for the names of files.
        level: what it is pruned to, for the same.

    Raises:
        UserError: an unknown way, a way without a place, or something that stands there already.
    """
    if options.out is None:
        given = [name for name in ("ways", "overwrite", "values") if getattr(options, name)]
        if given:
            raise UserError(f"--{given[0].replace('ways', 'as')} says how to write, but not where; give --out FOLDER.")
        return None
    ways = tuple(dict.fromkeys(way for way in (part.strip() for part in (options.ways or _USUAL).split(",")) if way))
    unknown = next((way for way in ways if way not in WAYS), None)
    if unknown is not None or not ways:
        raise UserError(f"--as takes {', '.join(WAYS)} with commas between them, not {brief(unknown or options.ways)}.")
    if options.values and "packed" not in ways:
        raise UserError("--values is about the packed folder; add packed to --as.")
    places = {way: _place(options.out, way, ways, f"{_name(settings.model)}-{level}") for way in ways}
    pictures = whole(options.pictures, "The number of pictures", 0, MOST)
    packing = {"values": options.values} if options.values else {}
    take_away = TakeAway(places, options.overwrite, packing, pictures, options.clip)
    take_away.check()
    return take_away


def _place(out: Path, way: str, ways: tuple[str, ...], stem: str) -> Path:
    suffix = WAYS[way].suffix
    if len(ways) == 1 and (not suffix or out.suffix.lower() == suffix):
        return out
    return out / (_NAMES.get(way) or (f"{stem}{suffix}" if suffix else way))


def _name(model: str) -> str:
    """A short name for files: of the folder or the file, or the last part of a hub id."""
    path = local_path(model)
    if path is None:
        return split_hub_path(model)[0].rpartition("/")[2]
    return path.resolve().stem if path.is_file() else path.resolve().name
