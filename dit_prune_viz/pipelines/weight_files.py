"""Which weight files of a pipeline are loaded, plain ones or a variant's, whole or in shards, and what lies in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dit_prune_viz.errors import UserError

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""What each library calls its files of weights."""
AGAIN = "download or save the model again."
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(?:\.(\w+))?(?:-\d+-of-\d+(?:\.(\w+))?)?\.safetensors")
_PREFERRED = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: the file's name, its type as safetensors writes it ("BF16"), its shape."""

    file: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a pipeline that has weights, as it lies on the disk.

    Attributes:
        name: in the pipeline and of the folder, such as "text_encoder".
        folder: with config.json and the weights.
        kind: class of the model.
        variant: of the files, such as "fp16"; None for plain ones.
        files: names of what is loaded.
        tensors: everything in these files by key.
        config: folder with config.json where the weights are a single file of whatever name; None otherwise.
    """

    name: str
    folder: Path
    kind: type
    variant: str | None
    files: tuple[str, ...]
    tensors: Mapping[str, Stored]
    config: Path | None = None

    def find(self, key: str) -> tuple[str, Stored] | None:
        """A tensor by its name in the model, which a file may have with another prefix; None if it is in no file."""
        if key in self.tensors:
            return key, self.tensors[key]
        ends = (stored for stored in self.tensors if stored.endswith(f".{key}") or key.endswith(f".{stored}"))
        found = next(ends, None)
        return None if found is None else (found, self.tensors[found])

    def place(self, stored: Stored | None) -> str:
        """Relative path of a tensor's file, for people; without a tensor that of the only file, or the folder."""
        folder = "" if self.config else f"{self.folder.name}/"
        if stored is not None:
            return f"{folder}{stored.file}"
        return f"{folder}{self.files[0]}" if len(self.files) == 1 else f"the files of {self.folder.name}"


def find_part(part: str, folder: Path, kind: type, library: str, name: str) -> Part:
    """Look up what would be loaded of one part of a pipeline.

    Args:
        part: its name in the pipeline.
        folder: where it lies.
        kind: its class.
        library: "diffusers" or "transformers".
        name: of the model, for people.

    Raises:
        UserError: weights are missing, damaged or in another format than safetensors, or those of an adapter.
    """
    stem = STEMS[library]
    there = [path.name for path in folder.glob(f"{stem}*")] if folder.is_dir() else []
    variant = variant_of(there)
    suffix = f".{variant}" if variant else ""
    whole = f"{stem}{suffix}.safetensors"
    lists = [f"{stem}.safetensors.index{suffix}.json"] + [f"{stem}.safetensors{suffix}.index.json"] * bool(variant)
    found = [file for file in (*lists, whole) if file in there]
    # Beside an adapter's settings there are only its own weights, or transformers would load another model for it.
    if (folder / "adapter_config.json").is_file() and (not found or library == "transformers"):
        raise UserError(adapter_refusal(name, part))
    if not found:
        raise UserError(f"{name} could not be loaded: {folder.name}/{stem}.safetensors is missing; {AGAIN}")
    # Where both lie there, diffusers follows the list of shards and transformers takes the whole file.
    chosen = found[0] if library == "diffusers" else found[-1]
    files = (chosen,) if chosen == whole else _shards(folder, chosen, name)
    tensors: dict[str, Stored] = {}
    for file in files:
        tensors.update(read_header(folder / file, name))
    return Part(part, folder, kind, variant, files, tensors)


def variant_of(files: Iterable[str]) -> str | None:
    """The variant to load of a part's files by their names: None where plain ones are there, or none at all."""
    matches = [match for match in map(_WEIGHTS.fullmatch, files) if match]
    found = {match[1] or match[2] for match in matches}
    if None in found:
        return None
    return min(found, key=lambda one: (one not in _PREFERRED, one != "fp32", one != "bf16", one), default=None)


def files_of_variant(files: Iterable[str]) -> list[str]:
    """The files of a part, by their names, without weights of other variants than the one that is loaded."""
    files = list(files)
    matches = {file: _WEIGHTS.fullmatch(file) for file in files}
    variant = variant_of(files)
    if not any(matches.values()):
        return files
    return [
        file
        for file, match in matches.items()
        if not file.endswith(".safetensors") or (match and (match[1] or match[2]) == variant)
    ]


def adapter_refusal(name: str, part: str = "transformer") -> str:
    """What to say of a part of a model with an adapter that was not fused."""
    under = "only the weights under it would be pruned; " if part == "transformer" else "it would be lost; "
    return (
        f"The {part} of {name} has a LoRA adapter, and {under}fuse it with pipeline.fuse_lora() and "
        "pipeline.unload_lora_weights(), save the pipeline and load that folder."
    )


def _shards(folder: Path, index: str, name: str) -> tuple[str, ...]:
    """The files that a list of shards names, all of them there."""
    try:
        files = tuple(sorted(set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{name} could not be loaded: {folder.name}/{index} is damaged; {AGAIN}") from None
    for file in files:
        if not str(file).endswith(".safetensors"):  # the loader would open a pickle that is named here
            raise UserError(f"{name} could not be loaded: {folder.name}/{index} names {file}, no safetensors; {AGAIN}")
        if not (folder / file).is_file():
            raise UserError(f"{name} could not be loaded: {folder.name}/{file} is missing; {AGAIN}")
    return files


def read_header(path: Path, name: str) -> dict[str, Stored]:
    """What lies in a safetensors file by key. UserError if it is damaged."""
    try:
        with safe_open(path, "pt") as tensors:
            parts = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 - no mapping
            return {key: Stored(path.name, part.get_dtype(), tuple(part.get_shape())) for key, part in parts.items()}
    except (OSError, SafetensorError):
        raise UserError(f"{name} could not be loaded: {path.parent.name}/{path.name} is damaged; {AGAIN}") from None
