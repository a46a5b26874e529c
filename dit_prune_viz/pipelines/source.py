"""Find the files of a model before loading any of them: a pipeline, or a transformer to which a base lends the rest."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.hub_download import download_model
from dit_prune_viz.pipelines.load_settings import LoadSettings, split_hub_path
from dit_prune_viz.pipelines.pipeline_index import (
    INDEX,
    MODULAR_INDEX,
    TRANSFORMER,
    check_complete,
    check_index,
    component,
    modular_places,
    parts_taken,
    read_index,
)

_SHOWN = 200
LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError, SafetensorError)
"""What diffusers and transformers raise when files are missing, damaged or do not fit together."""
_CONFIG = "config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DEPTH, _FOLDERS, _NAMED = 3, 2000, 3
"""How deep and how widely to look for a pipeline inside a folder, and how many of several to name."""


@dataclass(frozen=True, eq=False)
class Source:
    """A model's files, found but not loaded.

    Attributes:
        name: of the model, for people.
        folder: of the pipeline; the base's where the model is a transformer alone.
        index: the pipeline's class and its parts, as in `model_index.json`.
        places: part → folder where it lies; that of the transformer may be a single file.
        config: folder with the transformer's config.json where its place is a single file.
    """

    name: str
    folder: Path
    index: Mapping[str, object]
    places: Mapping[str, Path]
    config: Path | None = None

    @property
    def gathered(self) -> bool:
        """Whether its parts lie elsewhere than in the subfolders of a plain pipeline's folder."""
        elsewhere = (place != self.folder / key for key, place in self.places.items())
        return any(elsewhere) or not (self.folder / INDEX).is_file()


def find_source(settings: LoadSettings, progress: Progress | None = None) -> Source:
    """Check what is asked for and find its files; what lies on the hub is downloaded.

    Args:
        settings: the model and, if need be, its base.
        progress: told of downloads.

    Raises:
        UserError: nothing there, neither a diffusers pipeline nor a transformer of one, code of its own, pickled
            weights, or a part that is missing.
    """
    name = f"{settings.model}/{settings.subfolder}" if settings.subfolder else settings.model
    place = _place(settings, name, progress)
    index = None if place.is_file() else read_index(place, name)
    alone = index is None and (place.is_file() or _transformer_class(place) is not None)
    if index is None and not (alone and (settings.base or place.is_file() or not _inside_pipeline(place))):
        raise UserError(f"{name} has no {INDEX}; {_where_instead(place)}.")
    base = None if settings.base is None else _base(settings, progress)
    if alone:
        return _transformer_alone(place, name, base)
    files = [file.relative_to(place).as_posix() for file in place.glob("*/*") if file.is_file()]
    check_index(index, files, name=name)
    source = Source(name, place, index, _places(place, index, settings, progress))
    if base is not None:
        source = _with_lent_parts(source, base)
    check_complete(source.index, name=name)
    absent = next((key for key, place in source.places.items() if not place.exists()), None)
    if absent is not None:  # transformers would make a tokenizer without words
        raise UserError(
            f"{name} could not be loaded: it has no folder {absent}; download or save the model again, or name a "
            "pipeline that lends this part as base (--base)."
        )
    return source


def local_path(source: str | Path) -> Path | None:
    """The file or folder that a source names, "~" being the home folder; None if there is none."""
    text = str(source).strip()
    try:
        path = Path(os.path.expanduser(text))  # Path.expanduser raises for an unknown user
        return path if text and path.exists() else None
    except (OSError, ValueError):  # a name too long or impossible
        return None


def _place(settings: LoadSettings, name: str, progress: Progress | None, *, lends: bool = False) -> Path:
    """The folder or file that is asked for, downloaded where it is on the hub."""
    path = local_path(settings.model)
    if path is None:
        if not is_hub_id(split_hub_path(settings.model)[0]):
            shown = repr(settings.model.strip()[:_SHOWN])
            raise UserError(
                f"There is no folder {shown}; give a diffusers pipeline's folder or a hub id like org/name."
            )
        return download_model(settings, name, progress, lends=lends)
    if settings.revision is not None:
        what = "folder" if path.is_dir() else "file"
        raise UserError(f"{name} is a {what}, which has no revision {settings.revision!r}; leave the revision out.")
    path = path / settings.subfolder if settings.subfolder else path
    if not path.exists():
        raise UserError(f"There is no folder {settings.subfolder!r} in {settings.model}; correct the subfolder.")
    if path.is_file():
        _check_file(path, name)
    return path


def _check_file(path: Path, name: str) -> None:
    """Refuse single files that hold no weights in a format that is read."""
    if path.suffix in _PICKLES:
        raise UserError(
            f"{name} is a pickle file, which can run code when opened; give the .safetensors file of the same model."
        )
    if path.name in (INDEX, MODULAR_INDEX, _CONFIG) or path.name.endswith(".safetensors.index.json"):
        raise UserError(f"{name} only describes a model; give the folder that it lies in, {path.parent}.")
    if path.suffix not in (".safetensors", ".gguf"):
        raise UserError(f"{name} is no model; give a .safetensors file or the folder of a diffusers pipeline.")


def _base(settings: LoadSettings, progress: Progress | None) -> Source:
    lender = replace(settings, model=settings.base, base=None, revision=None, subfolder=None, loras=())
    name = f"The base {settings.base}"
    place = _place(lender, name, progress, lends=True)
    index = None if place.is_file() else read_index(place, name)
    if index is None:
        raise UserError(f"{name} is no pipeline (it has no {INDEX}); give one that the model was made from.")
    check_index(index, [], name=name)
    return Source(name, place, index, _places(place, index, lender, progress))


def _places(place: Path, index: Mapping, settings: LoadSettings, progress: Progress | None) -> dict[str, Path]:
    elsewhere = modular_places(place)
    places = {}
    for key in parts_taken(index):
        if not component(index, key):
            continue
        subfolder, origin = elsewhere.get(key, (key, None))
        places[key] = place / subfolder
        if origin and not places[key].is_dir():  # a modular pipeline names the model that has this part
            origin = settings.allowed(origin) if settings.allowed else origin
            asked = replace(settings, model=origin, subfolder=subfolder, revision=None, base=None, loras=())
            places[key] = _place(asked, f"{origin}/{subfolder}", progress)
    return places


def _with_lent_parts(source: Source, base: Source) -> Source:
    """The pipeline, with the base's parts in the place of those that it does not have."""
    index, places = dict(source.index), dict(source.places)
    for key in parts_taken(index):
        there = component(index, key) and places[key].exists()
        if not there and component(base.index, key):
            index[key], places[key] = base.index[key], base.places[key]
    return replace(source, index=index, places=places)


def _transformer_alone(place: Path, name: str, base: Source | None) -> Source:
    """The base's pipeline with another transformer."""
    if base is None:
        raise UserError(
            f"{name} is a transformer alone; name the pipeline that lends the rest, its folder or hub id, as base "
            "(--base)."
        )
    kind = base.index[TRANSFORMER][1]
    found = _transformer_class(place) if place.is_dir() else kind
    if found != kind:
        raise UserError(
            f"{name} is a {found} and the transformer of the base {base.folder.name} a {kind}; give as base the "
            "pipeline that the model belongs to."
        )
    places = {**base.places, TRANSFORMER: place}
    config = base.places[TRANSFORMER] if place.is_file() else None
    check_complete(base.index, name=base.name)
    return Source(name, base.folder, base.index, places, config)


def _transformer_class(folder: Path) -> str | None:
    """The diffusers class of a model that is saved in a folder; None if there is none."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = config.get("_class_name") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def _inside_pipeline(path: Path) -> bool:
    return (path.resolve().parent / INDEX).is_file()


def _where_instead(path: Path) -> str:
    """What to give in place of a folder that is no pipeline: one that it lies in, or those that lie in it."""
    if _inside_pipeline(path):
        return f"it is a part of the pipeline {path.resolve().parent}, give that folder"
    inside = list(itertools.islice(_pipelines_in(path), _NAMED + 1))
    if not inside:
        files = sorted(path.glob("*.safetensors"))
        if files:
            return f"give a file in it, such as {files[0]}, with the pipeline that lends the rest as base (--base)"
        return "give the folder of a pipeline saved with diffusers' save_pretrained"
    if len(inside) == 1:
        return f"give {inside[0]}"
    names = [one.relative_to(path).as_posix() for one in inside[:_NAMED]]
    more = " or another one" if len(inside) > _NAMED else ""
    return f"give one of the pipelines in it, {' or '.join(names)}{more}"


def _pipelines_in(path: Path) -> Iterator[Path]:
    """Folders with an index, a few levels down, nearest first."""
    waiting = deque([(path, 0)])
    for _ in range(_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        if depth and any((folder / index).is_file() for index in (INDEX, MODULAR_INDEX)):
            yield folder
        elif depth < _DEPTH:
            try:
                inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
            except OSError:  # not ours to read
                continue
            waiting.extend((Path(one), depth + 1) for one in inside)
