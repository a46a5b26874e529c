"""Where a fault can strike: seams that are crossed many times while work is done, counted, and cut at one of them."""

from __future__ import annotations

import builtins
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from dit_prune_viz.errors import Cancelled

PROGRESS, FORWARD, OPERATION, WRITING = SEAMS = ("progress", "forward", "operation", "writing")


class Injected(RuntimeError):
    """A fault of the program's own, as a bug would raise it."""


def _raise_own() -> None:
    raise Injected("injected")


def _run_out_of_device_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _run_out_of_memory() -> None:
    raise MemoryError


def _cancel() -> None:
    raise Cancelled


def _fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


KINDS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "exception": (_raise_own, (PROGRESS, FORWARD, OPERATION, WRITING)),
    "device memory": (_run_out_of_device_memory, (FORWARD, OPERATION)),
    "memory": (_run_out_of_memory, (FORWARD, OPERATION, WRITING)),
    "cancel": (_cancel, (PROGRESS,)),
    "full disk": (_fill_the_disk, (WRITING,)),
    "killed process": (_kill, (PROGRESS, FORWARD, OPERATION, WRITING)),
}
"""Kind of a fault → what it does, and the seams at which it can happen."""


class Wire:
    """Counts how often its seam is crossed; the fault strikes at one of these times.

    Args:
        seam: one of `SEAMS`.
        strike: what happens; None only counts.
        at: the crossing at which it does, from 1.
    """

    def __init__(self, seam: str, strike: Callable[[], None] | None = None, at: int = 0) -> None:
        self.seam, self.count, self.struck = seam, 0, False
        self._strike, self._at = strike, at

    def cross(self, *_: object) -> None:
        """The seam is crossed once."""
        self.count += 1
        if self._strike is not None and self.count == self._at:
            self.struck = True
            self._strike()

    def progress(self, done: int, total: int, what: str) -> None:
        """Given to the work as its progress."""
        if self.seam == PROGRESS:
            self.cross()

    @contextmanager
    def laid(self) -> Iterator[None]:
        """Within it the seam is watched."""
        with ExitStack() as stack:
            if self.seam == FORWARD:
                handle = register_module_forward_pre_hook(lambda module, inputs: self.cross())
                stack.callback(handle.remove)
            elif self.seam == OPERATION:
                stack.enter_context(_Operations(self))
            elif self.seam == WRITING:
                for patch in self._writing():
                    stack.enter_context(patch)
            yield

    def _writing(self) -> Iterator:
        for name in ("replace", "link", "fsync"):
            yield mock.patch.object(os, name, self._before(getattr(os, name)))
        yield mock.patch.object(Path, "write_bytes", self._halfway(Path.write_bytes))
        yield mock.patch.object(Path, "write_text", self._halfway(Path.write_text))
        yield mock.patch.object(Path, "mkdir", self._before(Path.mkdir))
        yield mock.patch.object(builtins, "open", self._opened(builtins.open))
        yield mock.patch.object(Path, "open", self._opened(Path.open))

    def _before(self, real: Callable) -> Callable:
        def call(*args, **options):
            self.cross()
            return real(*args, **options)

        return call

    def _halfway(self, real: Callable) -> Callable:
        """Half of the content is written when the fault strikes."""

        def call(path, content, *args, **options):
            try:
                self.cross()
            except BaseException:
                real(path, content[: len(content) // 2], *args, **options)
                raise
            return real(path, content, *args, **options)

        return call

    def _opened(self, real: Callable) -> Callable:
        def call(path, mode="r", *args, **options):
            if any(letter in mode for letter in "wax+"):
                self.cross()
            return real(path, mode, *args, **options)

        return call


class _Operations(TorchFunctionMode):
    """Every operation of torch in this thread."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self._wire.cross()
        return function(*args, **(kwargs or {}))
