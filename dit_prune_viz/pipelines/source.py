"""Look at a model's files before loading any of them: is this a pipeline that can be opened, and safely?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from huggingface_hub import hf_hub_download
from safetensors import SafetensorError

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.hub import cached_folder, hub_files, is_hub_id

INDEX = "model_index.json"
_SHOWN = 200
LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError, SafetensorError)
"""What diffusers and transformers raise when files are missing, damaged or do not fit together."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def find_source(source: str | Path) -> str:
    """Check a folder or hub id and say what to hand to `DiffusionPipeline.from_pretrained`.

    A hub id is looked up first (file list and `model_index.json` only); without a connection, a copy in the local
    hub cache is used.

    Args:
        source: a folder in diffusers format, or a hub id such as "org/name".

    Returns:
        The folder's path, or the hub id.

    Raises:
        UserError: nothing there, not a diffusers pipeline, no transformer inside, code of its own, or pickled weights.
    """
    text = str(source).strip()
    path = local_path(text)
    if path is None:
        if not is_hub_id(text):
            name = repr(text[:_SHOWN])
            raise UserError(f"There is no folder {name}; give a diffusers pipeline's folder or a hub id like org/name.")
        return _find_on_hub(text)
    if not path.is_dir():
        raise UserError(f"{text} is a single file; give the folder of a diffusers pipeline (with {INDEX}).")
    check_folder(path, name=text)
    return str(path)


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
        raise UserError(f"{name} has no {INDEX}; give the folder of a pipeline saved with diffusers' save_pretrained.")
    files = [file.relative_to(path).as_posix() for file in path.glob("*/*") if file.is_file()]
    check_index(_read_index(path / INDEX, name), files, name=name)


def check_index(index: dict, files: Iterable[str], *, name: str) -> None:
    """Refuse a pipeline by its `model_index.json` and the relative paths of its files (see `find_source`)."""
    import diffusers

    if not _component(index, "transformer"):
        what = "a UNet" if _component(index, "unet") else "no transformer"
        raise UserError(f"{name} has {what} where a diffusion transformer is needed; choose a DiT pipeline.")
    for key in ("_class_name", "transformer"):
        known = index.get(key) if key == "_class_name" else index[key][1]
        if not isinstance(known, str) or not hasattr(diffusers, known):
            raise UserError(
                f"{name} needs code of its own or a newer diffusers ({key} {known!r}); remote code is never run, "
                f"choose a pipeline that diffusers {diffusers.__version__} knows."
            )
    pickled = sorted(_pickled_only(files) & {key for key in index if _component(index, key)})
    if pickled:
        raise UserError(
            f"{name} has pickle weights only ({', '.join(pickled)}), which can run code when opened; convert them "
            "where you trust them: load with diffusers, then save_pretrained(folder, safe_serialization=True)."
        )


def _component(index: dict, key: str) -> bool:
    """Whether the index names a component: [library, class], with null for one that is left out."""
    entry = index.get(key)
    return isinstance(entry, list) and len(entry) == 2 and all(entry)


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


def _find_on_hub(hub_id: str) -> str:
    files = hub_files(hub_id)
    if files is None:
        folder = cached_folder(hub_id, INDEX)
        check_folder(folder, name=hub_id)
        return str(folder)
    if INDEX not in files:
        raise UserError(f"{hub_id} has no {INDEX}; choose a hub model in diffusers format.")
    check_index(_read_index(Path(hf_hub_download(hub_id, INDEX)), hub_id), files, name=hub_id)
    return hub_id
