"""Look at a model's files before loading any of them: is this a pipeline that can be opened, and safely?"""

from __future__ import annotations

import inspect
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.families import check_draws
from dit_prune_viz.pipelines.hub import Checkout, cached_folder, download, hub_files, index_file, is_hub_id
from dit_prune_viz.pipelines.weight_files import variant_to_download

INDEX = "model_index.json"
_SHOWN = 200
LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError, SafetensorError)
"""What diffusers and transformers raise when files are missing, damaged or do not fit together."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DEPTH, _FOLDERS, _NAMED = 3, 2000, 3
"""How deep and how widely to look for a pipeline inside a folder, and how many of several to name."""


def find_source(source: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Check a folder or hub id and give the folder to load; a hub model is downloaded.

    A hub id is looked up first (file list and `model_index.json` only); without a connection, a copy in the local
    hub cache is used.

    Args:
        source: a folder in diffusers format, or a hub id such as "org/name".
        revision: branch, tag or commit on the hub; None is the newest. A folder has none.
        token: of the hub; None takes the one that was logged in with.

    Returns:
        The folder.

    Raises:
        UserError: nothing there, not a diffusers pipeline, no transformer inside, code of its own, or pickled weights.
    """
    text = str(source).strip()
    path = local_path(text)
    if path is None:
        if not is_hub_id(text):
            name = repr(text[:_SHOWN])
            raise UserError(f"There is no folder {name}; give a diffusers pipeline's folder or a hub id like org/name.")
        return _find_on_hub(Checkout(text, revision, token))
    if not path.is_dir():
        raise UserError(f"{text} is a single file; give the folder of a diffusers pipeline (with {INDEX}).")
    if revision is not None:
        raise UserError(f"{text} is a folder, which has no revision {revision!r}; leave the revision out.")
    check_folder(path, name=text)
    return path


def local_path(source: str | Path) -> Path | None:
    """The file or folder that a source names, "~" being the home folder; None if there is none."""
    text = str(source).strip()
    path = Path(os.path.expanduser(text))  # Path.expanduser raises for an unknown user
    try:
        return path if text and path.exists() else None
    except (OSError, ValueError):  # a name too long or impossible
        return None


def check_folder(path: Path, *, name: str) -> None:
    """Refuse a folder that cannot be opened as a transformer pipeline with safetensors weights (see `find_source`)."""
    if not (path / INDEX).is_file():
        raise UserError(f"{name} has no {INDEX}; {_where_instead(path)}.")
    files = [file.relative_to(path).as_posix() for file in path.glob("*/*") if file.is_file()]
    index = _read_index(path / INDEX, name)
    check_index(index, files, name=name)
    absent = next((key for key in _required(index) if index.get(key) in (None, [None, None])), None)
    if absent is not None:
        raise UserError(
            f"{name} has no {absent} in its {INDEX}, and {index['_class_name']} cannot draw without one; save the "
            "pipeline with all its parts."
        )


def _where_instead(path: Path) -> str:
    """What to give in place of a folder that is no pipeline: one that it lies in, or those that lie in it."""
    if (path.resolve().parent / INDEX).is_file():
        return f"it is a part of the pipeline {path.resolve().parent}, give that folder"
    inside = list(itertools.islice(_pipelines_in(path), _NAMED + 1))
    if not inside:
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
        if depth and (folder / INDEX).is_file():
            yield folder
        elif depth < _DEPTH:
            try:
                inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
            except OSError:  # not ours to read
                continue
            waiting.extend((Path(one), depth + 1) for one in inside)


def check_index(index: dict, files: Iterable[str], *, name: str) -> None:
    """Refuse a pipeline by its `model_index.json` and the relative paths of its files (see `find_source`)."""
    import diffusers

    if not component(index, "transformer"):
        what = "a UNet" if component(index, "unet") else "no transformer"
        raise UserError(f"{name} has {what} where a diffusion transformer is needed; choose a DiT pipeline.")
    for key in ("_class_name", "transformer"):
        known = index.get(key) if key == "_class_name" else index[key][1]
        if not isinstance(known, str) or not hasattr(diffusers, known):
            raise UserError(
                f"{name} needs code of its own or a newer diffusers ({key} {known!r}); remote code is never run, "
                f"choose a pipeline that diffusers {diffusers.__version__} knows."
            )
    check_draws(getattr(diffusers, index["_class_name"]), name)
    pickled = sorted(_pickled_only(files) & {key for key in index if component(index, key)})
    if pickled:
        raise UserError(
            f"{name} has pickle weights only ({', '.join(pickled)}), which can run code when opened; convert them "
            "where you trust them: load with diffusers, then save_pretrained(folder, safe_serialization=True)."
        )


def component(index: Mapping[str, object], key: str) -> bool:
    """Whether the index names a component: [library, class], with null for one that is left out."""
    entry = index.get(key)
    return isinstance(entry, list) and len(entry) == 2 and all(entry)


def parts_taken(index: Mapping[str, object]) -> Mapping[str, inspect.Parameter]:
    """What the pipeline's class takes when it is made, its parts among them."""
    import diffusers

    return inspect.signature(getattr(diffusers, index["_class_name"]).__init__).parameters


def _required(index: Mapping[str, object]) -> Iterator[str]:
    """Parts that a pipeline draws nothing without."""
    import diffusers

    kind = getattr(diffusers, index["_class_name"])
    optional = set(getattr(kind, "_optional_components", ())) - {"text_encoder"}  # PixArt would want embeddings
    if kind.__name__.startswith("StableDiffusion3"):  # it puts zeros in the place of the third encoder's
        optional |= {"text_encoder_3"} | ({"tokenizer_3"} if not component(index, "text_encoder_3") else set())
    for key, parameter in parts_taken(index).items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if key != "self" and needed and key not in optional:
            yield key


def _pickled_only(files: Iterable[str]) -> set[str]:
    """Components whose weights come in pickle files and not as safetensors."""
    paths = [PurePosixPath(file) for file in files if file.count("/") == 1]
    safe = {path.parts[0] for path in paths if path.suffix == ".safetensors"}
    return {path.parts[0] for path in paths if path.suffix in _PICKLES} - safe


def _read_index(path: Path, name: str) -> dict:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    if not isinstance(index, dict):
        raise UserError(f"{name}: {INDEX} is not readable JSON; download or save the pipeline again.")
    return index


def _find_on_hub(model: Checkout) -> Path:
    name = model.hub_id
    files = hub_files(model)
    if files is None:
        folder = cached_folder(model, INDEX)
    elif INDEX not in files:
        raise UserError(f"{name} has no {INDEX}; choose a hub model in diffusers format.")
    else:
        check_index(_read_index(index_file(model, INDEX), name), files, name=name)
        folder = download(model, variant_to_download(files))
    check_folder(folder, name=name)
    return folder
