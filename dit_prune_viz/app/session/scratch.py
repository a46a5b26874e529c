"""Temporary folders for files to be downloaded, each with an owner and an end."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dit_prune_viz.errors import UserError


class Scratch:
    """A temporary folder that is gone once nobody holds this any more, at the end of the process at the latest."""

    def __init__(self) -> None:
        """Make the folder. UserError if the disk does not take it."""
        with _telling():
            self.path = Path(tempfile.mkdtemp(prefix="dit-prune-viz-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def lend(self, file: Path | None) -> Path | None:
        """A file by the same name in this folder, which may be handed out wherever the file itself lies.

        Raises:
            UserError: the disk does not take it.
        """
        if file is None:
            return None
        lent = self.path / file.name
        try:
            os.link(file, lent)
        except OSError:  # on another disk
            with _telling():
                shutil.copyfile(file, lent)
        return lent

    def stays_with(self, owner: object) -> Scratch:
        """Keep the folder for as long as another object lives."""
        weakref.finalize(owner, self._release)
        return self

    def _release(self) -> None:
        """Nothing: the owner's finalizer has held this object until now."""


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"Files to download cannot be written ({error.strerror}); make room and try again.") from error
