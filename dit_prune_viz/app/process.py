"""The app's process: its temporary files, which go with it, and its end, which is quiet whoever asks for it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType

from dit_prune_viz.errors import UserError

PREFIX = "dit-prune-viz-app-"
_LOCK = ".lock"
STOPPED = MappingProxyType({signal.SIGINT: 130, signal.SIGTERM: 143})
"""Exit status after each of the signals that stop the app, as shells have it."""


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Whatever this process and gradio write to temporary files lies in one folder, which is gone at the end.

    What a process that was killed has left is removed as well, by the next one. Gradio's uploads and copies stay where
    GRADIO_TEMP_DIR says, if a person has set it.
    """
    before, temporary = tempfile.tempdir, Path(tempfile.gettempdir())
    _remove_abandoned(temporary)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    kept = {name: os.environ.get(name) for name in ("TMPDIR", "GRADIO_TEMP_DIR")}
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    os.environ["GRADIO_TEMP_DIR"] = kept["GRADIO_TEMP_DIR"] or str(folder / "gradio")
    lock = _lock(folder / _LOCK)
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(remove)  # where a signal ends the process
    try:
        yield folder
    finally:
        atexit.unregister(remove)
        tempfile.tempdir = before
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        remove()
        if lock is not None:
            os.close(lock)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Within it Ctrl+C and SIGTERM end the process, whatever is being imported or loaded: an exception might get lost
    there. A signal that the process was started to ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in STOPPED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Around all that the app does: the process ends with the block, with a status and at most one sentence.

    Threads that still work on the model would abort the interpreter while it shuts down; so it does not wait for them.
    """
    status = 1
    try:
        yield
        status = 0
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = STOPPED[signal.SIGINT]
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        end_process(status)


def end_process(status: int) -> None:
    """End this process without waiting for its threads; what is registered with `atexit` is done."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPED:  # whoever is impatient does not interrupt the tidying up
            signal.signal(number, signal.SIG_IGN)
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def _stop(number: int, _: FrameType | None) -> None:
    end_process(STOPPED[signal.Signals(number)])


def _lock(path: Path) -> int | None:
    """Hold a file's lock for as long as the process lives; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    number = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    with suppress(OSError):
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return number


def _remove_abandoned(temporary: Path) -> None:
    """Remove the folders of this user's processes that no longer live: their locks are free."""
    try:
        import fcntl
    except ImportError:
        return
    for folder in temporary.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            number = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # just being made, or gone by now
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its process lives
            pass
        finally:
            os.close(number)
