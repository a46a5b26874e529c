"""The one design of a cache on disk: safetensors files named after their content, bounded in bytes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from safetensors import SafetensorError
from safetensors.torch import load, save

from dit_prune_viz.errors import UserError
from dit_prune_viz.whole_file import remove_stale_parts, write_whole

VARIABLE = "DIT_PRUNE_VIZ_CACHE"
"""Environment variable: a folder, or "off". The option --cache goes before it."""

OFF = "off"
LONG_SECONDS = 10.0
"""What takes longer to make is kept on disk."""

LIMIT = 4 << 30
_NAME = re.compile(r"[a-z]+-[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True, eq=False)
class Entry:
    """Tensors by name, on the CPU, and a JSON object that describes them."""

    tensors: Mapping[str, torch.Tensor]
    about: Mapping[str, object] = field(default_factory=dict)


class DiskCache:
    """Entries in a folder, a safetensors file each. Several processes may share it.

    Files are written under a temporary name and then renamed, so nobody reads half a file. Files that are damaged are
    removed and count as missing. A folder that cannot be written to keeps nothing and is no error. Only files that this
    class named are ever removed.

    Args:
        folder: made when first needed.
        limit: bytes that the files may take together; those used longest ago, by modification time, are removed first.
            None is no limit. The newest file stays even if it is larger.
    """

    def __init__(self, folder: str | Path, limit: int | None = LIMIT) -> None:
        self.folder, self.limit = Path(folder), limit

    def find(self, key: str) -> Entry | None:
        """The entry of `key` (see `content_key`), None if there is none or its file is damaged."""
        path = self.path(key)
        try:
            found = read_entry(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.remove(key)
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def put(self, key: str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, object] | None = None) -> None:
        """Keep tensors and a JSON object under `key`, then remove what exceeds the limit."""
        with suppress(OSError):  # a full disk costs the time to make it again, nothing else
            self.folder.mkdir(parents=True, exist_ok=True)
            write_entry(self.path(key), Entry(tensors, about or {}))
            self._trim(keep=self.path(key))

    def remove(self, key: str) -> None:
        """Forget `key`."""
        with suppress(OSError):
            self.path(key).unlink()

    def path(self, key: str) -> Path:
        """The file of `key`, whether it exists or not."""
        return self.folder / f"{key}.safetensors"

    def _trim(self, keep: Path) -> None:
        remove_stale_parts(self.folder)
        if self.limit is None:
            return
        files = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # another process may remove files at the same time
                state = path.stat()
                if _NAME.fullmatch(path.name):
                    files.append((state.st_mtime_ns, state.st_size, path))
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if used <= self.limit:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                used -= size


def kept(
    cache: DiskCache | None, key: str, make: Callable[[], Mapping[str, torch.Tensor]]
) -> Mapping[str, torch.Tensor]:
    """Tensors by name, from the cache or made.

    They are kept if that took more than LONG_SECONDS, and if they take no more than a quarter of the cache.

    Args:
        cache: None makes them in any case.
        key: see `content_key`.
        make: may be interrupted by any exception; nothing is kept then.
    """
    found = cache.find(key) if cache else None
    if found is not None:
        return found.tensors
    start = time.perf_counter()
    made = make()
    size = sum(tensor.nbytes for tensor in made.values())
    if cache and time.perf_counter() - start > LONG_SECONDS and (cache.limit is None or 4 * size <= cache.limit):
        cache.put(key, made)
    return made


def content_key(kind: str, *parts: object) -> str:
    """The name of an entry: its kind, in lower-case letters, and the SHA-256 of everything that decides its content.

    `parts` are JSON values, bytes or numpy arrays' bytes; a change in any of them gives another key.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(f"{type(part) is bytes} {len(data)} ".encode() + data)
    return f"{kind}-{digest.hexdigest()}"


def user_folder() -> Path:
    """The user's cache folder for this program, unless DIT_PRUNE_VIZ_CACHE names another one."""
    chosen = os.environ.get(VARIABLE)
    if chosen and chosen.lower() != OFF:
        return Path(chosen).expanduser()
    return Path(user_cache_dir("dit_prune_viz", appauthor=False))


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Let a command take --cache; `open_cache` understands its value."""
    parser.add_argument(
        "--cache", metavar=f"DIR|{OFF}", help=f"folder for calibrations and what else takes long (or set {VARIABLE})"
    )


def chosen_folder(choice: str | None, variable: str, usual: Callable[[], Path], refusal: str) -> Path | None:
    """The folder that a person chose.

    Args:
        choice: by an option: a folder, or "off"; None or an empty text leaves it to the variable.
        variable: of the environment, which says the same.
        usual: the folder where neither says anything.
        refusal: what is said of a file, with "{}" for its path.

    Returns:
        None for "off".

    Raises:
        UserError: the folder is a file.
    """
    choice = choice or os.environ.get(variable)
    if choice and choice.lower() == OFF:
        return None
    folder = Path(choice).expanduser() if choice else usual()
    if folder.is_file():
        raise UserError(refusal.format(folder))
    return folder


def open_cache(choice: str | None = None) -> DiskCache | None:
    """The disk cache a person chose.

    Args:
        choice: a folder, or "off"; None or an empty text leaves it to DIT_PRUNE_VIZ_CACHE, and else takes the user's
            cache folder.

    Returns:
        None for "off".

    Raises:
        UserError: the folder is a file.
    """
    refusal = "The cache {} is a file; give a folder, or off for no cache."
    folder = chosen_folder(choice, VARIABLE, user_folder, refusal)
    return None if folder is None else DiskCache(folder)


def write_entry(path: Path, entry: Entry) -> None:
    """Write one safetensors file, in one step. OSError if the disk does not take it."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in entry.tensors.items()}
    about = {"about": json.dumps(dict(entry.about)), "crc32": str(_checksum(tensors))}
    write_whole(path, save(tensors, about))  # `save_file` would hide the file from other users of the folder


def read_entry(path: Path) -> Entry:
    """Read a file that `write_entry` wrote. OSError if there is none, ValueError if it is damaged."""
    try:
        data = path.read_bytes()  # at once: another process may put a new file in its place between two readings
        tensors = load(data)
        header = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + header])["__metadata__"]
        about = json.loads(metadata["about"])
        intact = isinstance(about, dict) and metadata["crc32"] == str(_checksum(tensors))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged.") from error
    if not intact:
        raise ValueError(f"{path} is damaged.")
    return Entry(tensors, about)


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 of all names, kinds, shapes and bytes: safetensors itself notices a short file, not a changed one."""
    check = 0
    for name, tensor in sorted(tensors.items()):
        check = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), check)
        check = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), check)
    return check
