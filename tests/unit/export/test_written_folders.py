"""Folders and files that appear whole or not at all, and places where nothing may be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from quick_prune import quickly_pruned

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export import folders, part_files
from dit_prune_viz.export.folders import new_file, new_folder
from dit_prune_viz.export.ways import export

ROOT = Path(__file__).parents[3]


def write_folder(target, text="new", **options):
    with new_folder(target, needs=10, **options) as part:
        (part / "one.txt").write_text(text)


def write_file(target, text="new", **options):
    with new_file(target, needs=10, **options) as part:
        part.write_text(text)


def fill(write, target, work, **options):
    """Do some work where one of the writers writes."""
    start = new_folder if write is write_folder else new_file
    with start(target, needs=10, **options) as part:
        work(part)


WRITERS = pytest.mark.parametrize("write", [write_folder, write_file])


def content(target: Path) -> str:
    return (target / "one.txt" if target.is_dir() else target).read_text()


@WRITERS
def test_it_is_there_as_a_whole_and_nothing_else(write, tmp_path):
    write(tmp_path / "a" / "b" / "it")
    assert content(tmp_path / "a" / "b" / "it") == "new"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["it"]


@WRITERS
@pytest.mark.parametrize("problem", [Cancelled(), RuntimeError("mine"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_and_not_even_the_folders_around_it(write, tmp_path, problem):
    def fail(part):
        (part / "half" if part.is_dir() else part).write_text("half")
        raise problem

    with pytest.raises(type(problem)):
        fill(write, tmp_path / "a" / "b" / "it", fail)
    assert list(tmp_path.iterdir()) == []


@WRITERS
def test_others_may_read_it(write, tmp_path):
    def secretly(part):
        file = part / "one" if part.is_dir() else part
        file.write_text("new")
        file.chmod(0o600)

    def plainly(part):
        (part / "one" if part.is_dir() else part).write_text("new")

    for name, work in (("secret", secretly), ("plain", plainly)):
        fill(write, tmp_path / name, work)
    modes = [
        [path.stat().st_mode for path in (tmp_path / name, *(tmp_path / name).glob("*"))]
        for name in ("secret", "plain")
    ]
    assert modes[0] == modes[1]


@WRITERS
def test_what_is_there_stays_unless_it_may_go(write, tmp_path):
    write(tmp_path / "it", "old")
    with pytest.raises(UserError, match="exists already; choose another name, or ask for it to be overwritten"):
        write(tmp_path / "it")
    assert content(tmp_path / "it") == "old"
    write(tmp_path / "it", overwrite=True)
    assert content(tmp_path / "it") == "new"
    assert len(list(tmp_path.iterdir())) == 1


@WRITERS
def test_what_is_there_stays_if_the_new_one_fails(write, tmp_path):
    write(tmp_path / "it", "old")

    def cancel(part):
        raise Cancelled

    with pytest.raises(Cancelled):
        fill(write, tmp_path / "it", cancel, overwrite=True)
    assert content(tmp_path / "it") == "old"
    assert len(list(tmp_path.iterdir())) == 1


@WRITERS
def test_what_has_come_into_being_meanwhile_stays(write, tmp_path):
    def slowly(part):
        (part / "one.txt" if part.is_dir() else part).write_text("new")
        write(tmp_path / "it", "old")

    with pytest.raises(UserError, match="has come into being meanwhile"):
        fill(write, tmp_path / "it", slowly)
    assert content(tmp_path / "it") == "old"


def test_an_empty_folder_may_become_the_new_one(tmp_path):
    (tmp_path / "it").mkdir()
    write_folder(tmp_path / "it")
    assert content(tmp_path / "it") == "new"


@WRITERS
def test_a_link_leads_to_what_is_written(write, tmp_path):
    write(tmp_path / "there", "old")
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "link")
    write(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "there") == "new"
    (tmp_path / "dangling").symlink_to("absent")
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "dangling")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UserError, match=r"round"):
        write(tmp_path / "round", overwrite=True)


@WRITERS
def test_impossible_places(write, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"cannot be written to \(Not a directory\)"):
        write(tmp_path / "file" / "it")
    with pytest.raises(UserError, match=r"cannot be written to \(File name too long\)"):
        write(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="it is no path"):
        write("a\0b")
    with pytest.raises(UserError, match="is no name of a"):
        write("/")
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a file, which a folder cannot replace"):
        write_folder(tmp_path / "file", overwrite=True)
    with pytest.raises(UserError, match="is a folder, which a file cannot replace"):
        write_file(tmp_path / "folder", overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for this user")
@WRITERS
def test_a_folder_that_is_read_only(write, tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match=r"could not be written \(Permission denied\)"):
        write(tmp_path / "it")
    tmp_path.chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
@WRITERS
def test_a_file_system_that_is_read_only(write):
    with pytest.raises(UserError, match=r"could not be written \(.*\); free some space or choose another folder"):
        write("/proc/it")


@pytest.mark.parametrize("place", ["model", ".", "model/transformer", "link"])
def test_what_the_model_was_loaded_from_is_never_replaced(tmp_path, place):
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    (tmp_path / "model" / "transformer" / "weights").write_text("dear")
    (tmp_path / "link").symlink_to("model")
    with pytest.raises(UserError, match="holds files of the model that was loaded; choose another place"):
        write_folder(tmp_path / place, overwrite=True, keep=[tmp_path / "model"])
    with pytest.raises(UserError, match="holds files of the model that was loaded"):
        write_file(
            tmp_path / "model" / "transformer" / "weights", overwrite=True, keep=[tmp_path / "link" / "transformer"]
        )
    assert (tmp_path / "model" / "transformer" / "weights").read_text() == "dear"
    write_folder(tmp_path / "model" / "pruned", keep=[tmp_path / "model"])


def test_where_a_person_works_and_lives_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    for place in (".", "..", tmp_path / "work"):
        with pytest.raises(UserError, match=r"holds .*here, which would be lost|is no name of a folder"):
            write_folder(place, overwrite=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    (tmp_path / "home" / "me").mkdir(parents=True)
    for place in ("~", tmp_path / "home"):
        with pytest.raises(UserError, match="which would be lost; choose another place"):
            write_folder(place, overwrite=True)


@WRITERS
def test_a_disk_that_is_too_small_is_told_before_anything_is_written(write, tmp_path, monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 9))
    with pytest.raises(UserError, match=r"needs \d+ bytes, but the disk has \d+ bytes left; free some space first"):
        write(tmp_path / "a" / "it")
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
import numpy, torch
from safetensors.numpy import save_file
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.folders import new_file, new_folder
from dit_prune_viz.export.weight_file import write_weights

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
big = {"a": torch.ones(10), "b": torch.ones(100_000)}
for name, start, write in (
    ("own", new_file, lambda part: write_weights(part, big, big.__getitem__, {})),
    ("library", new_folder, lambda part: save_file({"b": numpy.ones(100_000)}, part / "weights.safetensors")),
    ("text", new_file, lambda part: part.write_text("x" * 200_000)),
):
    try:
        with start(f"{sys.argv[1]}/{name}", needs=1) as part:
            write(part)
    except UserError as problem:
        print(problem)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    """A limit on files stands in for a full disk: writing fails in the middle of a file, in the system itself."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line.split(" could not")[0] for line in lines] == [
        str(tmp_path / one) for one in ("own", "library", "text")
    ]
    assert all("free some space or choose another folder" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_of_temporary_files_is_one_sentence(flux, tmp_path, monkeypatch):
    """What files need is counted there, before the target is touched."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    pruned = quickly_pruned(flux)
    monkeypatch.setattr(part_files, "TemporaryDirectory", full)
    monkeypatch.setattr(flux.cache, "get", lambda key, make: make())
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR"):
        export(pruned, tmp_path / "out", "diffusers")
    assert list(tmp_path.iterdir()) == []
