"""Write and read the files of the packed format: shards of bytes, and a header that says what they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.packed_header import HEADER, header_text
from dit_prune_viz.export.packed_tensor import PackedTensor, unpack_tensor
from dit_prune_viz.export.shards import SHARD_BYTES, Shards
from dit_prune_viz.export.threads import in_order
from dit_prune_viz.masks.pruned_layer import PrunedLayer

_AGAIN = "download or pack the model again."
Value = TypeVar("Value")


@dataclass(frozen=True)
class Job:
    """A tensor that waits to be packed: its name, where it comes from, and the pruned layer it belongs to."""

    name: str
    tensor: Tensor
    layer: PrunedLayer | None = None


def write_packed(
    jobs: Iterable[Job],
    pack: Callable[[Job], PackedTensor],
    folder: Path | None,
    about: Mapping[str, object],
    *,
    total: int,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Pack tensors into a folder.

    Args:
        jobs: asked for one after another, a few ahead of what is being written.
        pack: called in several threads.
        folder: where the shards and the header go; None only counts their bytes.
        about: further entries of the header, in JSON's types.
        total: how many jobs there are, for the progress.
        progress: called before every tensor; may raise `Cancelled`.
        shard_bytes: see `Shards`.

    Returns:
        Bytes of shards and header.
    """
    entries: dict[str, dict] = {}
    shards = Shards(folder, shard_bytes)

    def work(job: Job) -> tuple[PackedTensor, str]:
        packed = pack(job)
        return packed, _digest(packed) if folder else "0" * 64

    for done, (name, (packed, digest)) in enumerate(in_order(jobs, work)):
        if progress:
            progress(done, total, f"Packing {name}")
        entries[name] = {**packed.entry, "file": shards.put(name, packed.parts), "sha256": digest}
    shards.close()
    header = header_text(about, shards.files, entries).encode()
    if folder is not None:
        (folder / HEADER).write_bytes(header)
    if progress:
        progress(total, total, "Packed")
    return shards.nbytes + len(header)


def read_packed(
    folder: Path,
    header: Mapping[str, object],
    read: Callable[[PackedTensor], Value] = unpack_tensor,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Value]]:
    """Yield (name, what `read` makes of the packed tensor), file by file.

    Args:
        folder: with the shards.
        header: as `read_header` gives it.
        read: called in several threads.
        progress: called before every tensor; may raise `Cancelled`.

    Raises:
        UserError: a shard is missing or cut short, or a tensor's bytes have changed.
    """
    total = len(header["tensors"])
    for done, (name, value) in enumerate(in_order(_stored(folder, header), lambda job: read(_checked(folder, job)))):
        if progress:
            progress(done, total, f"Unpacking {name}")
        yield name, value


@dataclass(frozen=True, eq=False)
class _Stored:
    name: str
    packed: PackedTensor
    file: str


def _stored(folder: Path, header: Mapping[str, object]) -> Iterator[_Stored]:
    by_file: dict[int, list[str]] = {}
    for name, entry in header["tensors"].items():
        by_file.setdefault(entry["file"], []).append(name)
    for place, names in sorted(by_file.items()):
        file = header["files"][place]
        try:
            if not (folder / file).is_file():
                raise FileNotFoundError(file)
            with safe_open(folder / file, "np") as tensors:
                keys: dict[str, list[str]] = {}
                for key in tensors.keys():  # noqa: SIM118 - no mapping
                    name, _, part = key.rpartition("/")
                    keys.setdefault(name, []).append(part)
                for name in names:
                    parts = {part: _bytes(tensors, f"{name}/{part}") for part in keys.get(name, ())}
                    yield _Stored(name, PackedTensor(header["tensors"][name], parts, name), file)
        except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder / file} is missing or damaged; {_AGAIN}") from None


def _bytes(tensors: safe_open, key: str) -> np.ndarray:
    kind = tensors.get_slice(key)
    if kind.get_dtype() != "U8" or len(kind.get_shape()) != 1:
        raise ValueError(f"{key} is not a run of bytes")
    return tensors.get_tensor(key)


def _checked(folder: Path, stored: _Stored) -> PackedTensor:
    if _digest(stored.packed) != stored.packed.entry["sha256"]:
        raise UserError(f"{stored.name} in {folder / stored.file} is damaged; {_AGAIN}")
    return stored.packed


def _digest(packed: PackedTensor) -> str:
    """Of the parts' names, sizes and bytes, in alphabetical order."""
    digest = hashlib.sha256()
    for name, data in sorted(packed.parts.items()):
        digest.update(f"{name} {data.nbytes} ".encode())
        digest.update(np.ascontiguousarray(data))
    return digest.hexdigest()
