"""Digests of a packed folder's files, so that no change of one goes unseen, and no file lies outside of it."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.packed_header import HEADER
from dit_prune_viz.export.shards import SUFFIX

SUMS = "packed.sha256"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_MOST_BYTES = 16 << 20
_AGAIN = "download or pack the model again."


def write_sums(folder: Path) -> None:
    """List every file of a folder with its digest, as `sha256sum` does; shards have digests in their header."""
    own = folder / SUMS
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != own and not _is_shard(path))
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    own.write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Check a folder's files by its list of digests.

    Raises:
        UserError: the list is missing or no list, names a file outside of the folder, or a file is missing, has
            changed, is not listed or is a link that leads out of the folder.
    """
    _check_links(folder)
    listed = _read(folder)
    names = {name for _, name in listed}
    for path in sorted(folder.rglob("*")):
        own = path.relative_to(folder)
        if own.as_posix() not in names and _is_read(own) and path.is_file() and not _is_shard(path):
            raise UserError(f"{path} is not among the digests of {SUMS}; {_AGAIN}")
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        for name, same in pool.map(lambda one: (one[1], _same(folder / one[1], one[0])), listed):
            if not same:
                raise UserError(f"{folder / name} is missing or has changed since the model was packed; {_AGAIN}")


def _read(folder: Path) -> list[tuple[str, str]]:
    path = folder / SUMS
    try:
        if not path.is_file():
            raise UserError(f"{folder} has no {SUMS}, the list of its digests; {_AGAIN}")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        *lines, last = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not readable; {_AGAIN}") from None
    found = [_LINE.fullmatch(line) for line in lines]
    if last or not all(found) or any(not _inside(match[2]) for match in found):
        raise UserError(f"{path} is damaged; {_AGAIN}")
    return [(match[1], match[2]) for match in found]


def _same(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and _digest(path) == digest
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_shard(path: Path) -> bool:
    return path.suffix == SUFFIX and (path.parent / HEADER).exists()


def _is_read(path: Path) -> bool:
    """Whether a file matters to the pipeline: beside it may lie model cards, pictures and hidden files."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and (len(path.parts) > 1 or path.suffix == ".json")


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and "\\" not in name


def _check_links(folder: Path) -> None:
    """Refuse links that lead out of the folder; those of the hub's cache lead to its own store."""
    home = folder.resolve()
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    for path in folder.rglob("*"):
        if path.is_symlink() and not _leads_into(path, homes):
            raise UserError(f"{path} is a link that leads out of the folder; {_AGAIN}")


def _leads_into(link: Path, homes: list[Path]) -> bool:
    try:
        target = link.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return False
    return any(target.is_relative_to(home) for home in homes)
