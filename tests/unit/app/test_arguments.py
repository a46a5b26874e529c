from __future__ import annotations

import pytest

from dit_prune_viz.app.serve import main, parse


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("DIT_PRUNE_VIZ_AUTH", raising=False)


def test_defaults_are_the_bundled_model_on_loopback():
    arguments = parse([])
    assert (arguments.host, arguments.port, arguments.auth) == ("127.0.0.1", 7860, None)
    assert arguments.model.endswith("emoji-flux")
    assert arguments.clip.endswith("emoji-clip")


def test_an_open_host_needs_a_login(capsys):
    with pytest.raises(SystemExit):
        parse(["--host", "0.0.0.0"])
    assert "--auth" in capsys.readouterr().err
    assert parse(["--host", "0.0.0.0", "--auth", "ada:secret:1"]).auth == ("ada", "secret:1")


def test_the_login_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("DIT_PRUNE_VIZ_AUTH", "ada:secret")
    assert parse(["--host", "0.0.0.0"]).auth == ("ada", "secret")


@pytest.mark.parametrize("text", ["ada", ":secret", "ada:"])
def test_a_login_needs_both_parts(text):
    with pytest.raises(SystemExit):
        parse(["--auth", text])


def test_a_space_is_open_behind_its_proxy(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/app")
    assert parse([]).host == "0.0.0.0"


def test_a_cache_that_is_a_file_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--cache", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.endswith("is a file; give a folder, or off for no cache.\n")
