"""Write one file whole or not at all: a process that dies, or a disk that fills up, leaves no half of it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".dit-prune-viz-part"
"""How a file's name ends while it is being written."""
_STALE_SECONDS = 24 * 3600


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A file to write; it gets its name when the block ends, and is gone if the block fails.

    Args:
        path: of the file to be, in a folder that exists.
        overwrite: whether it may replace a file of that name.

    Yields:
        Path of a file that is not there yet, in the same folder.

    Raises:
        FileExistsError: the name is taken and the file may not be replaced.
        OSError: the disk does not take it.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.{threading.get_ident()}{PART}")
    try:
        yield part
        sync(part)
        _put(part, path, overwrite)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, overwrite: bool = True) -> None:
    """Write a text, in UTF-8 as it is, or bytes. Raises what `whole_file` raises."""
    with whole_file(path, overwrite=overwrite) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder: a name must not outlive a loss of power without its
    content."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows opens no folder
            return
        raise
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_stale_parts(folder: Path) -> None:
    """Remove what processes that were killed have left of files and folders in a folder, a day or more ago."""
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):  # another process may remove it at the same time
            if time.time() - path.lstat().st_mtime <= _STALE_SECONDS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _put(part: Path, target: Path, overwrite: bool) -> None:
    """Give a written file its name. OSError if that fails, FileExistsError if the name was taken meanwhile."""
    if not overwrite:
        try:
            os.link(part, target)  # unlike renaming it never replaces anything
            return
        except FileExistsError:
            raise
        except OSError:  # a disk without links
            if target.exists():
                raise FileExistsError from None
    os.replace(part, target)
    with suppress(OSError):  # some network disks do not sync folders; the file itself is there
        sync(target.parent)
