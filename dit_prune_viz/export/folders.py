"""Write a folder or a file whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.formatting import size
from dit_prune_viz.whole_file import PART, remove_stale_parts, sync


@contextmanager
def new_folder(target: str | Path, *, needs: int, overwrite: bool = False, keep: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder to fill; it takes the target's place when the block ends, and is gone if the block fails.

    Args:
        target: the folder to be; where it is a link, the folder that it leads to.
        needs: bytes that will be written, to be told before anything is.
        overwrite: whether a folder that is there may be replaced; it stays as it is until the new one is complete.
        keep: files and folders that must not be replaced, such as those that the model was loaded from.

    Yields:
        A temporary folder beside the target, on the same disk.

    Raises:
        UserError: the target exists or cannot be written to, or the disk is too small or full.
    """
    target = check_target(target, overwrite=overwrite, keep=keep, folder=True)
    with _beside(target, needs) as part:
        yield part
        _share(part)
        _replace(part, target, overwrite)


@contextmanager
def new_file(target: str | Path, *, needs: int, overwrite: bool = False, keep: Iterable[Path] = ()) -> Iterator[Path]:
    """A file to write; it takes the target's place when the block ends, and is gone if the block fails.

    Args:
        target: as in `new_folder`.
        needs: as there.
        overwrite: as there.
        keep: as there.

    Yields:
        Path of a file that is not there yet, beside the target, on the same disk.

    Raises:
        UserError: as in `new_folder`.
    """
    target = check_target(target, overwrite=overwrite, keep=keep, folder=False)
    with _beside(target, needs) as part:
        yield part / target.name
        _share(part)
        _replace(part / target.name, target, overwrite)


def check_target(target: str | Path, *, overwrite: bool, keep: Iterable[Path] = (), folder: bool) -> Path:
    """Refuse a place where something may not be written.

    Args:
        target: as in `new_folder`, like the next two. An empty folder may become another one without being asked.
        overwrite: see there.
        keep: see there.
        folder: whether it shall be a folder.

    Returns:
        Its absolute path; that of what it leads to where it is a link.

    Raises:
        UserError: it exists, or cannot be replaced by what is to be written.
    """
    kind, other = ("folder", "file") if folder else ("file", "folder")
    try:
        path = Path(os.path.expanduser(target)).absolute()
        if not path.name or (not folder and str(target).endswith(("/", os.sep))):
            raise UserError(f"{target} is no name of a {kind}; choose another one.")
        there, target = _is_there(path), path.resolve()
        if there and not overwrite and not (folder and _is_empty(target)):
            raise UserError(f"{path} exists already; choose another name, or ask for it to be overwritten.")
        if target.exists() and folder != target.is_dir():
            raise UserError(f"{path} is a {other}, which a {kind} cannot replace; choose another name.")
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise UserError(f"{str(path)[:200]} cannot be written to ({reason}); choose another place.") from error
    for one in map(Path.resolve, keep):
        if target in (one, *one.parents) or (target.exists() and one in target.parents):
            raise UserError(f"{path} holds files of the model that was loaded; choose another place.")
    used = next((one for one in (Path.cwd(), Path.home()) if target in (one, *one.parents)), None)
    if target.is_dir() and used is not None:
        raise UserError(f"{path} holds {used}, which would be lost; choose another place.")
    return target


def bytes_at(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in files_in(path))


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below, in order."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def check_space(target: Path, needs: int) -> None:
    """Refuse a place whose disk has fewer bytes left than will be written. UserError with both numbers."""
    there = next(one for one in (target, *target.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    if free < needs:
        least, left = size(needs), size(free)
        raise UserError(f"{target} needs {least}, but the disk has {left} left; free some space first.")


@contextmanager
def _beside(target: Path, needs: int) -> Iterator[Path]:
    """A folder beside the target, which goes whatever happens; failures of the disk become sentences."""
    absent = [one for one in target.parents if not one.exists()]
    part = None
    try:
        part = _part(target, PART)
        remove_stale_parts(target.parent)
        check_space(target, needs)
        yield part
    except (OSError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) and part is not None and part.exists():
            raise
        reason = getattr(error, "strerror", None) or first_sentence(error)
        raise UserError(
            f"{target} could not be written ({reason}); free some space or choose another folder."
        ) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        for one in absent:  # they hold the target, unless that has failed
            with suppress(OSError):
                one.rmdir()


def _part(target: Path, ending: str = "") -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}-", suffix=ending, dir=target.parent))
    part.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner only
    return part


def _share(part: Path) -> None:
    """Let others read what is written, since safetensors makes files for their owner only, and have it on the disk."""
    for file in part.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~_umask())
            sync(file)


def _replace(part: Path, target: Path, overwrite: bool) -> None:
    """Rename a folder or a file to the target; what is there stays unless that succeeds."""
    if _is_there(target) and not overwrite and not _is_empty(target):
        raise UserError(f"{target} has come into being meanwhile; choose another name.")
    if not (target.is_dir() and any(target.iterdir())):
        part.replace(target)
        return
    old = _part(target)  # holds what a person has, and so is never taken for stale
    target.rename(old / "old")
    try:
        part.rename(target)
    except OSError:
        (old / "old").rename(target)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_there(path: Path) -> bool:
    """As `exists`, but of links themselves, and an impossible name is an OSError."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
