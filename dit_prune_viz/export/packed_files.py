"""The files of the packed format: safetensors shards of bytes, and a header that says what they mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.packed_tensor import DTYPES, PackedTensor, unpack_tensor
from dit_prune_viz.masks.packed_mask import PackedMask

HEADER = "packed.json"
FORMAT, VERSION = "dit-prune-viz packed", 1
SHARD_BYTES = 2 << 30
"""A file is closed when it holds more, so that no more than this waits in memory."""

_THREADS = 2
_AHEAD = 8
_AGAIN = "download or pack the model again."


@dataclass(frozen=True)
class Job:
    """A tensor that waits to be packed: its name, where it comes from, and its mask."""

    name: str
    tensor: Tensor
    mask: PackedMask | None = None


def write_packed(
    jobs: Iterable[Job],
    pack,
    folder: Path,
    about: Mapping[str, object],
    *,
    total: int,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Pack tensors into a folder.

    Args:
        jobs: asked for one after another, a few ahead of what is being written.
        pack: job → PackedTensor; called in several threads.
        folder: where the shards and the header go.
        about: further entries of the header, in JSON's types.
        total: how many jobs there are, for the progress.
        progress: called before every tensor; may raise `Cancelled`.
        shard_bytes: see `SHARD_BYTES`.

    Returns:
        Bytes written.
    """
    entries: dict[str, dict] = {}
    files: list[str] = []
    shard: dict[str, np.ndarray] = {}

    def close() -> None:
        if shard:
            files.append(f"packed-{len(files) + 1:05d}.safetensors")
            save_file(shard, folder / files[-1])
            shard.clear()

    for done, (name, packed) in enumerate(_in_threads(jobs, pack)):
        if progress:
            progress(done, total, f"Packing {name}")
        parts = {f"{name}/{part}": data for part, data in packed.parts.items()}
        entries[name] = {**packed.entry, "file": len(files), "sha256": _digest(packed.parts)}
        shard.update(parts)
        if sum(data.nbytes for data in shard.values()) > shard_bytes:
            close()
    close()
    header = {"format": FORMAT, "version": VERSION, **about, "files": files, "tensors": entries}
    (folder / HEADER).write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")
    if progress:
        progress(total, total, "Packed")
    return sum(path.stat().st_size for path in folder.iterdir())


def read_header(folder: Path) -> dict[str, object]:
    """The header of a packed folder.

    Raises:
        UserError: there is none, it is no JSON, of another format or a newer version, or says what cannot be.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {HEADER}; give a folder that was packed.") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is not readable JSON; {_AGAIN}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path} is not the header of a packed model; give a folder that was packed.")
    if header.get("version") != VERSION:
        raise UserError(f"{path} has version {header.get('version')!r}, but this one reads {VERSION}; update the app.")
    files, tensors = header.get("files"), header.get("tensors")
    if not isinstance(files, list) or not all(_plain_name(file) for file in files) or not isinstance(tensors, dict):
        raise UserError(f"{path} is damaged; {_AGAIN}")
    for name, entry in tensors.items():
        if not _sound(entry, len(files)):
            raise UserError(f"{path} is damaged at {name}; {_AGAIN}")
    return header


def read_packed(folder: Path, header: Mapping[str, object], read=unpack_tensor, progress: Progress | None = None):
    """Yield (name, what `read` makes of the packed tensor), in the order of the header.

    Args:
        folder: with the shards.
        header: as `read_header` gives it.
        read: PackedTensor → anything; called in several threads.
        progress: called before every tensor; may raise `Cancelled`.

    Raises:
        UserError: a shard is missing or cut short, or a tensor's bytes have changed.
    """
    tensors = header["tensors"]
    jobs = _stored(folder, header)
    for done, (name, value) in enumerate(_in_threads(jobs, lambda job: read(_checked(folder, job)))):
        if progress:
            progress(done, len(tensors), f"Unpacking {name}")
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
            with safe_open(folder / file, "np") as tensors:
                keys: dict[str, list[str]] = {}
                for key in tensors.keys():  # noqa: SIM118 - no mapping
                    name, _, part = key.rpartition("/")
                    keys.setdefault(name, []).append(part)
                for name in names:
                    parts = {part: tensors.get_tensor(f"{name}/{part}") for part in keys.get(name, ())}
                    yield _Stored(name, PackedTensor(header["tensors"][name], parts, name), file)
        except (OSError, SafetensorError):
            raise UserError(f"{folder / file} is missing or damaged; {_AGAIN}") from None


def _checked(folder: Path, stored: _Stored) -> PackedTensor:
    if _digest(stored.packed.parts) != stored.packed.entry["sha256"]:
        raise UserError(f"{stored.name} in {folder / stored.file} is damaged; {_AGAIN}")
    return stored.packed


def _digest(parts: Mapping[str, np.ndarray]) -> str:
    """Of the parts' names, sizes and bytes, in alphabetical order."""
    digest = hashlib.sha256()
    for name, data in sorted(parts.items()):
        digest.update(f"{name} {data.nbytes} ".encode())
        digest.update(np.ascontiguousarray(data))
    return digest.hexdigest()


def _in_threads(jobs: Iterable, work) -> Iterator[tuple[str, object]]:
    """(name, work(job)) of every job in order, a few of them ahead in threads of their own."""
    jobs = iter(jobs)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [(job.name, pool.submit(work, job)) for job in islice(jobs, _AHEAD)]
        try:
            while waiting:
                name, result = waiting.pop(0)
                yield name, result.result()
                waiting += [(job.name, pool.submit(work, job)) for job in islice(jobs, 1)]
        finally:
            for _, result in waiting:
                result.cancel()


def _plain_name(file: object) -> bool:
    return isinstance(file, str) and file == Path(file).name and file.endswith(".safetensors")


def _sound(entry: object, files: int) -> bool:
    """Whether what a header says of a tensor can be, before anything is made by it."""

    def count(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40

    if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
        return False
    planes, mask = entry.get("bytes"), entry.get("mask")
    size = 1
    for side in entry["shape"]:
        if not count(side):
            return False
        size *= side
    good = count(entry.get("kept")) and count(entry.get("file")) and entry["file"] < files and size < 1 << 40
    good = good and entry.get("dtype") in DTYPES and entry.get("stored", entry["dtype"]) in DTYPES
    good = good and isinstance(planes, list) and isinstance(entry.get("sha256"), str)
    if not good or not all(isinstance(plane, dict) and isinstance(plane.get("coding"), str) for plane in planes):
        return False
    if any("top" in plane and not (count(plane["top"]) and count(plane.get("far"))) for plane in planes):
        return False
    if mask is None:
        return entry["kept"] == size
    return isinstance(mask, dict) and mask.get("order") in ("rows", "columns") and len(entry["shape"]) > 1
