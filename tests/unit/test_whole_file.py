"""A file is there whole, or as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.whole_file import PART, remove_stale_parts, whole_file, write_whole


@settings(max_examples=20)
@given(st.text(), st.binary())
def test_what_is_written_is_read(text, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        write_whole(path, text)
        assert path.read_bytes() == text.encode()
        write_whole(path, data)
        assert path.read_bytes() == data
        assert os.listdir(folder) == ["a.txt"]


@pytest.mark.parametrize("broken", ["fsync", "replace", "write"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.txt"
    write_whole(path, "before")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if broken == "write":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_exception_in_the_block_leaves_nothing(tmp_path):
    def stop():
        with whole_file(tmp_path / "a") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_taken_stays(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_whole(path, "second", overwrite=False)
    assert path.read_text() == "first"


def test_a_long_name_is_no_problem(tmp_path):
    name = "a" * 250
    write_whole(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


def test_only_old_parts_are_removed(tmp_path):
    old, fresh, other = (tmp_path / name for name in (f".a.1{PART}", f".b.1{PART}", "mine.txt"))
    for path in (old, fresh, other):
        path.write_text("x")
    folder = tmp_path / f".c-123{PART}"
    folder.mkdir()
    (folder / "half").write_text("x")
    for path in (old, other, folder):
        os.utime(path, (time.time() - 3 * 24 * 3600,) * 2)
    remove_stale_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted((fresh.name, other.name))


def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path):
    """Two texts by turns, and a kill at any moment: never a mixture, never a part of one."""
    path = tmp_path / "a.txt"
    write_whole(path, "a" * 200_000)
    program = (
        "import sys; from dit_prune_viz.whole_file import write_whole\n"
        "print('.', flush=True)\n"
        "while True:\n"
        "    for letter in 'ba': write_whole(sys.argv[1], letter * 200_000)\n"
    )
    for wait in (0.0, 0.011, 0.023, 0.037):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        writer.stdout.read(1)
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        text = path.read_text()
        assert text in ("a" * 200_000, "b" * 200_000)
