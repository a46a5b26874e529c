"""The options that say who may come in: logins in files, public names, and what may be opened."""

from __future__ import annotations

import pytest

from dit_prune_viz.app.guard_options import read_allowed_models, read_logins, read_rules
from dit_prune_viz.app.serve import main, parse
from dit_prune_viz.errors import UserError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("SPACE_ID", "SPACE_HOST", "DIT_PRUNE_VIZ_AUTH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "logins"
    path.write_text("# people\nada:se:cret\n\ngrace:hopper \n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_logins_come_from_a_file(file, capsys):
    options = parse(["--host", "0.0.0.0", "--auth-file", str(file)])
    assert read_logins(options) == [("ada", "se:cret"), ("grace", "hopper")]
    assert capsys.readouterr().err == ""


def test_logins_of_file_and_environment_add_up(file, monkeypatch):
    monkeypatch.setenv("DIT_PRUNE_VIZ_AUTH", "root:x")
    assert read_logins(parse(["--auth-file", str(file)]))[0] == ("root", "x")
    assert len(read_logins(parse(["--auth-file", str(file)]))) == 3
    assert read_logins(parse([])) == [("root", "x")]


def test_a_file_that_others_can_read_gets_a_warning(file, capsys):
    file.chmod(0o644)
    read_logins(parse(["--auth-file", str(file)]))
    assert f"others can read {file}; run chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "# nobody\n", "ada", "ada:", ":x", "ok:ok\nsecretword\n"])
def test_a_file_without_logins_is_refused_without_quoting_it(file, content):
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_logins(parse(["--auth-file", str(file)]))
    assert "user:password" in str(caught.value)
    assert "secretword" not in str(caught.value)


def test_an_unreadable_file_is_one_sentence(tmp_path, capsys):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0x:y")
    for path in (tmp_path / "no", tmp_path, tmp_path / "bytes"):
        assert main(["--auth-file", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"error: --auth-file {path} ")


def test_public_hosts_are_names():
    rules = read_rules(parse(["--public-host", "Lab.Example:443", "--public-host", "x.org"]), space=False)
    assert rules.public_hosts == ("lab.example", "x.org")
    assert rules.loopback
    for bad in ("http://lab.example", "lab.example/x", "", "["):
        with pytest.raises(UserError, match="is no host name"):
            read_rules(parse(["--public-host", bad]), space=False)


def test_a_space_knows_its_name(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/app")
    monkeypatch.setenv("SPACE_HOST", "someone-app.hf.space")
    rules = read_rules(parse([]), space=True)
    assert (rules.loopback, rules.public_hosts, rules.space) == (False, ("someone-app.hf.space",), True)


def test_all_models_are_open_on_loopback_alone(tmp_path):
    assert read_allowed_models(parse([]), space=False) is None
    assert read_allowed_models(parse([]), space=True).hub == ()
    assert read_allowed_models(parse(["--models", str(tmp_path)]), space=False).root == tmp_path.resolve()
    open_to_others = parse(["--host", "0.0.0.0", "--auth", "a:b", "--allow-model", "org/*"])
    assert read_allowed_models(open_to_others, space=False).hub == ("org/*",)
