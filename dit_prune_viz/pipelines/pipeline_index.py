"""What a pipeline consists of, from its `model_index.json`: can it be opened, safely, and are all its parts there?"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.families import check_draws
from dit_prune_viz.pipelines.packages import check_packages

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"
TRANSFORMER = "transformer"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_index(folder: Path, name: str) -> dict | None:
    """The index of a pipeline's folder, that of a modular pipeline written as a plain one's; None if there is none.

    Raises:
        UserError: it is no JSON, or a modular pipeline that has no plain form.
    """
    if (folder / INDEX).is_file():
        return _read(folder / INDEX, name)
    if (folder / MODULAR_INDEX).is_file():
        return plain_index(_read(folder / MODULAR_INDEX, name), name)
    return None


def check_index(index: Mapping, files: Iterable[str], *, name: str) -> None:
    """Refuse a pipeline by its index and the relative paths of its files.

    Raises:
        UserError: no transformer, code of its own, pickled weights, or a package is not installed.
    """
    import diffusers

    if not component(index, TRANSFORMER):
        what = "a UNet" if component(index, "unet") else "no transformer"
        raise UserError(f"{name} has {what} where a diffusion transformer is needed; choose a DiT pipeline.")
    for key in ("_class_name", TRANSFORMER):
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
    check_packages(index, name)


def check_complete(index: Mapping, *, name: str) -> None:
    """Refuse a pipeline that leaves out a part without which it draws nothing.

    Raises:
        UserError: that.
    """
    absent = next((key for key in _required(index) if not component(index, key)), None)
    if absent is not None and index.get(absent) in (None, [None, None]):
        raise UserError(
            f"{name} has no {absent} in its {INDEX}, and {index['_class_name']} cannot draw without one; save the "
            "pipeline with all its parts, or name one that lends it as base (--base)."
        )


def component(index: Mapping[str, object], key: str) -> bool:
    """Whether the index names a component: [library, class], with null for one that is left out.

    Other lists of two are settings, such as the layers of a text encoder that a pipeline reads.
    """
    entry = index.get(key)
    return isinstance(entry, list) and len(entry) == 2 and all(one and isinstance(one, str) for one in entry)


def parts_taken(index: Mapping[str, object]) -> Mapping[str, inspect.Parameter]:
    """What the pipeline's class takes when it is made, its parts among them."""
    import diffusers

    return inspect.signature(getattr(diffusers, index["_class_name"]).__init__).parameters


def plain_index(modular: Mapping, name: str) -> dict:
    """The `model_index.json` of the plain pipeline that a modular one stands for.

    Raises:
        UserError: the installed diffusers has no such pipeline.
    """
    import diffusers

    names = (str(modular.get("_class_name", "")), str(modular.get("_blocks_class_name", "")))
    guesses = [names[0].replace("Modular", ""), names[1].replace("AutoBlocks", "Pipeline")]
    plain = next((one for one in guesses if one not in ("", "Pipeline") and hasattr(diffusers, one)), None)
    if plain is None or "Pipeline" not in plain:
        raise UserError(
            f"{name} is a modular pipeline ({names[0]}), for which diffusers {diffusers.__version__} has no plain one; "
            "choose a model with a model_index.json."
        )
    index: dict = {"_class_name": plain}
    for key in parts_taken(index):
        entry = modular.get(key)
        if isinstance(entry, list):
            # Where a part was never loaded, only the description of it names its class.
            named = entry[2].get("type_hint") if len(entry) > 2 and isinstance(entry[2], dict) else None
            index[key] = list(entry[:2] if all(entry[:2]) else named or entry[:2])
        elif key in modular:
            index[key] = entry
    return index


def modular_places(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Part → subfolder, and the folder or hub model with that subfolder, of a modular pipeline's parts.

    A plain pipeline's parts lie where they are called, so that nothing has to be said of them.
    """
    if (folder / INDEX).is_file() or not (folder / MODULAR_INDEX).is_file():
        return {}
    places = {}
    for key, entry in _read(folder / MODULAR_INDEX, folder.name).items():
        if isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], dict):
            places[key] = entry[2].get("subfolder") or key, entry[2].get("pretrained_model_name_or_path")
    return places


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


def _read(path: Path, name: str) -> dict:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    if not isinstance(index, dict):
        raise UserError(f"{name}: {path.name} is not readable JSON; download or save the pipeline again.")
    return index
