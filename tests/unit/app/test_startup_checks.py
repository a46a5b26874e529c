"""What cannot work is told before anything is loaded, and the process ends without a trace."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gradio as gr
import pytest

from dit_prune_viz.app import serve
from dit_prune_viz.app.process import PREFIX, own_temporary_folder
from dit_prune_viz.app.serve import parse
from dit_prune_viz.app.session.scratch import Scratch
from dit_prune_viz.app.startup_checks import check_address, check_folder, check_startup
from dit_prune_viz.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "127.0.0.1"


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


@pytest.fixture
def busy():
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_free_port_is_fine_and_stays_free(port):
    for _ in range(2):
        check_address(LOOPBACK, port)
        check_address("localhost", port)
        check_address("0.0.0.0", port)


@pytest.mark.parametrize("host", [LOOPBACK, "localhost", "0.0.0.0"])
def test_a_busy_port_is_told(busy, host):
    with pytest.raises(UserError, match=f"Port {busy} of .* is in use"):
        check_address(host, busy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "99999"], "from 1 to 65535"),
        (["--port", "-1"], "from 1 to 65535"),
        (["--port", "0"], "from 1 to 65535"),
        (["--host", "no.such.host.invalid"], "cannot be looked up"),
        (["--host", "a" * 300], "cannot be looked up"),
        (["--host", "203.0.113.9"], "no address of this machine"),
        (["--device", "warp"], "Unknown device"),
        (["--device", "cuda:63"], "not available on this machine"),
        (["--model", "/nothing/there"], "no file or folder"),
        (["--model", "a//b"], "no file or folder"),
        (["--base", "no folder of this name"], "no file or folder"),
        (["--clip", "nothing"], "no file or folder"),
        (["--cache", str(ROOT / "README.md")], "is a file"),
        (["--cache", str(ROOT / "README.md" / "below")], "lies below"),
        (["--out", str(ROOT / "README.md" / "far" / "below")], "lies below"),
        (["--state", str(ROOT / "README.md" / "below")], "or off to save nothing"),
        (["--out", "with\0null"], "no name of a folder"),
    ],
)
def test_what_cannot_work_is_one_sentence(port, options, words, capsys, monkeypatch):
    monkeypatch.setattr(serve, "serve", None)  # nothing is opened in this process
    given = ["--port", str(port), *options]
    if "--host" in options:
        given += ["--auth", "ada:secret"]
    assert serve.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_the_usual_options_pass(port, tmp_path):
    check_startup(parse(["--port", str(port)]))
    more = ["--cache", "OFF", "--out", str(tmp_path / "a" / "b"), "--clip", "org/clip", "--device", "cpu"]
    check_startup(parse(["--port", str(port), *more, "--model", "org/name@main/sub"]))
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for this user")
def test_places_without_permission_are_told(port, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(UserError, match="cannot be written to"):
        check_folder(closed / "cache", "cache")
    with pytest.raises(UserError, match="cannot be read"):
        check_startup(parse(["--port", str(port), "--model", str(closed)]))


def started(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("GRADIO_TEMP_DIR", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tests that run in the background of a shell are told to ignore Ctrl+C, and so would be what they start.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([sys.executable, "app.py", *arguments], cwd=ROOT, env=environment, **pipes, **heard)


def test_a_busy_port_ends_the_program_before_anything_is_loaded(busy, tmp_path):
    program = started(tmp_path, "--port", str(busy))
    out, told = program.communicate(timeout=120)
    assert (program.returncode, out) == (2, "")
    assert (
        told
        == f"error: Port {busy} of 127.0.0.1 is in use; stop the program that listens there, or give another --port.\n"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_loading_leaves_nothing(port, tmp_path, number):
    program = started(tmp_path, "--port", str(port))
    end = time.monotonic() + 120
    while not os.listdir(tmp_path) and time.monotonic() < end:  # loading begins
        time.sleep(0.05)
    assert [name.startswith(PREFIX) for name in os.listdir(tmp_path)] == [True]
    program.send_signal(number)
    _, told = program.communicate(timeout=120)
    assert program.returncode == 128 + number
    assert "Traceback" not in told
    assert os.listdir(tmp_path) == []


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    return tmp_path


def test_temporary_files_go_with_the_process(temporary):
    with own_temporary_folder() as folder:
        assert folder.parent == temporary
        assert Path(tempfile.mkdtemp()).parent == folder
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        (folder / "gradio" / "a").mkdir(parents=True)
        # A second process beside it does not touch it.
        other = "from dit_prune_viz.app.process import own_temporary_folder as own\nwith own(): pass"
        environment = {**os.environ, "TMPDIR": str(temporary)}
        subprocess.run([sys.executable, "-c", other], cwd=ROOT, env=environment, check=True)
        assert os.listdir(temporary) == [folder.name]
        assert (folder / "gradio" / "a").is_dir()
    assert os.listdir(temporary) == []
    assert tempfile.gettempdir() == str(temporary)
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_what_a_killed_process_left_goes_with_the_next_one(temporary):
    left = "import os\nfrom dit_prune_viz.app.process import own_temporary_folder as own\n"
    left += "with own(): os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", left], cwd=ROOT, env=environment, check=False)
    (abandoned,) = os.listdir(temporary)
    (temporary / f"{PREFIX}mine").mkdir()  # no process's: it has no lock
    with own_temporary_folder() as folder:
        assert sorted(os.listdir(temporary)) == sorted((folder.name, f"{PREFIX}mine"))
    assert abandoned != folder.name


def test_gradio_keeps_a_folder_that_a_person_set(temporary, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(temporary / "mine"))
    with own_temporary_folder():
        assert os.environ["GRADIO_TEMP_DIR"] == str(temporary / "mine")
    assert os.environ["GRADIO_TEMP_DIR"] == str(temporary / "mine")


def test_files_to_download_go_with_their_owner(temporary):
    class Owner:
        pass

    scratch, owner = Scratch(), Owner()
    path = scratch.stays_with(owner).path
    (path / "a.csv").write_text("x")
    del scratch
    gc.collect()
    assert (path / "a.csv").is_file()
    del owner
    gc.collect()
    assert os.listdir(temporary) == []


def tabulated() -> list[str]:
    """The functions in gradio's table of three calls."""
    calls = [{"function": "prune", "status": "success", "process_time": 1.0, "session_hash": "x", "time": 0.0}] * 3
    queue = gr.Blocks().queue()._queue
    queue.events_recorded = len(calls)
    return list(queue.compute_analytics_summary(calls)["functions"])


def test_gradio_tabulates_no_calls(monkeypatch):
    serve.quieten_libraries()
    assert tabulated() == []
    monkeypatch.delenv("GRADIO_ANALYTICS_CACHE_FREQUENCY")
    assert tabulated() == ["prune"]
