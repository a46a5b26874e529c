"""Which files of a hub model are needed, and where they lie once they are downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.hub import Checkout, Listing, cached, download, hub_files, small_file, unreachable
from dit_prune_viz.pipelines.load_settings import LoadSettings, split_hub_path
from dit_prune_viz.pipelines.pipeline_index import (
    INDEX,
    MODULAR_INDEX,
    TRANSFORMER,
    check_index,
    component,
    modular_places,
    read_index,
)
from dit_prune_viz.pipelines.weight_files import files_of_variant

_CONFIG = "config.json"
_DEFAULTS = "generation_defaults.json"
_WEIGHTS = (".safetensors", ".gguf")
_OTHERS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5", ".onnx", ".onnx_data", ".pb", ".gguf", ".index")
"""Weights in formats that are not read."""


def download_model(settings: LoadSettings, name: str, progress: Progress | None, *, lends: bool = False) -> Path:
    """The folder or file of a hub model, downloaded, or from the local cache where the hub cannot be reached.

    Args:
        settings: names the model, and where in it.
        name: for people.
        progress: told of the megabytes.
        lends: leave the weights of the transformer out, another one takes its place.

    Raises:
        UserError: the hub refuses, there is no such model, or it has no files that can be opened.
    """
    model = checkout(settings)
    listing = hub_files(model)
    if listing is None:
        found = cached(model, (INDEX, MODULAR_INDEX, _CONFIG) if not _is_file(model.path) else ("",))
        if found is None:
            raise unreachable(model)
        return found if _is_file(model.path) else found.parent
    files = _needed(model, listing, name, lends=lends)
    return download(model, files, listing, progress) / model.path


def checkout(settings: LoadSettings) -> Checkout:
    """What to get from the hub.

    Raises:
        UserError: two revisions, or two paths, are given.
    """
    hub_id, revision, path = split_hub_path(settings.model)
    for given, asked, what in ((revision, settings.revision, "revision"), (path, settings.subfolder, "subfolder")):
        if given and asked and given != asked:
            raise UserError(
                f"{settings.model} names the {what} {given!r} and {asked!r} is asked for; give one of them."
            )
    return Checkout(hub_id, revision or settings.revision, settings.token, path or settings.subfolder or "")


def _is_file(path: str) -> bool:
    return PurePosixPath(path).suffix in (*_WEIGHTS, *_OTHERS)


def _needed(model: Checkout, listing: Listing, name: str, *, lends: bool) -> list[str]:
    """What to download; UserError where there is nothing that can be opened."""
    if model.path in listing.sizes:
        return [model.path]
    inside = [file.removeprefix(f"{model.path}/" if model.path else "") for file in _under(model, listing)]
    index_name = next((file for file in (INDEX, MODULAR_INDEX) if file in inside), None)
    if index_name is not None:
        # By the name of the revision, so that the cache knows it later without a connection.
        folder = small_file(model, model.inside(index_name)).parent
        index = read_index(folder, name)
        check_index(index, inside, name=name)
        files = [index_name, *_of_parts(index, modular_places(folder), inside, lends=lends)]
        files += [_DEFAULTS] if _DEFAULTS in inside else []
    elif _CONFIG in inside and any(file.endswith(".safetensors") for file in inside):
        files = [_CONFIG, *_of_folder([file for file in inside if "/" not in file and file != _CONFIG])]
    else:
        raise UserError(_nothing(model, inside, name))
    return [model.inside(file) for file in files]


def _under(model: Checkout, listing: Listing) -> Iterator[str]:
    return (file for file in listing.sizes if not model.path or file.startswith(f"{model.path}/"))


def _of_parts(
    index: Mapping[str, object], elsewhere: Mapping[str, tuple[str, str]], files: Iterable[str], *, lends: bool
) -> Iterator[str]:
    """The files of the parts that a pipeline has."""
    folders: dict[str, list[str]] = {}
    for file in files:
        folder, _, rest = file.partition("/")
        folders.setdefault(folder, []).append(rest)
    for key in index:
        folder = elsewhere[key][0] if key in elsewhere else key
        if component(index, key) and folder in folders:
            only = [_CONFIG] if lends and key == TRANSFORMER else _of_folder(folders[folder])
            yield from (f"{folder}/{file}" for file in only)


def _of_folder(files: Iterable[str]) -> list[str]:
    """The files of one part: settings, vocabularies, and weights of the variant that will be loaded."""
    return [file for file in files_of_variant(files) if PurePosixPath(file).suffix not in _OTHERS]


def _nothing(model: Checkout, inside: list[str], name: str) -> str:
    """What to say of a hub model in another format."""
    single = sorted(file for file in inside if file.endswith(_WEIGHTS))
    if not inside:
        return f"{model.hub_id} has no folder {model.path!r}; correct the subfolder."
    if single:
        return (
            f"{name} has no {INDEX}; give one of its files, such as {model.hub_id}/{model.inside(single[0])}, with the "
            "pipeline that lends the rest as base (--base), or choose a hub model in diffusers format."
        )
    return f"{name} has no {INDEX}; choose a hub model in diffusers format."
