"""Write a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dit_prune_viz.errors import UserError


@contextmanager
def new_folder(target: str | Path, *, needs: int, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill; it takes the target's place when the block ends, and is gone if the block fails.

    Args:
        target: the folder to be.
        needs: bytes that will be written, to be told before anything is.
        overwrite: whether a folder that is there may be replaced; it stays as it is until the new one is complete.

    Yields:
        A temporary folder beside the target, on the same disk.

    Raises:
        UserError: the target exists or cannot be written to, or the disk is too small or full.
    """
    target = Path(os.path.expanduser(target)).absolute()
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise UserError(f"{target} exists already; choose another name, or ask for it to be overwritten.")
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file, which a folder cannot replace; choose another name.")
    part = _beside(target)
    try:
        free = shutil.disk_usage(part).free
        if free < needs:
            raise UserError(f"{target} needs {_gb(needs)}, but the disk has {_gb(free)} left; free some space first.")
        yield part
        _replace(part, target)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and part.exists():
            raise
        raise UserError(
            f"{target} could not be written ({error.strerror or error}); free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        part.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner only
    except OSError as error:
        raise UserError(f"{target} cannot be written to ({error.strerror}); choose another folder.") from error
    return part


def _replace(part: Path, target: Path) -> None:
    if not target.exists():
        part.rename(target)
        return
    old = _beside(target)
    target.rename(old / "old")
    try:
        part.rename(target)
    except OSError:
        (old / "old").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
