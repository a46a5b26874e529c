"""The command: which program an argument leads to, and plugins."""

from __future__ import annotations

import argparse

import pytest

from dit_prune_viz import command
from dit_prune_viz.app import serve
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments import cli
from dit_prune_viz.plugins import load_plugin, load_plugins


@pytest.fixture
def called(monkeypatch) -> list[tuple]:
    found = []
    monkeypatch.setattr(serve, "main", lambda arguments, program, commands: found.append(("app", *arguments)) or 0)
    monkeypatch.setattr(cli, "main", lambda arguments, program: found.append(("command", *arguments)) or 0)
    return found


@pytest.mark.parametrize(
    ("arguments", "program"),
    [([], "app"), (["--port", "80"], "app"), (["list"], "command"), (["run", "--out", "x"], "command")],
)
def test_what_an_argument_leads_to(called, arguments, program):
    assert command.main(arguments) == 0
    assert called == [(program, *arguments)]


def test_an_unknown_command_is_one_sentence(called, capsys):
    assert command.main(["prnue"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no command 'prnue'; use prune, sweep, ")
    assert called == []


def test_the_commands_are_those_of_the_command_line():
    actions = cli._parser("x")._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    assert {*commands.choices, command.PARTS} == set(command.COMMANDS)
    assert all("--plugin" in parser.format_help() for parser in commands.choices.values())


def test_plugins_run_first_wherever_they_stand(called, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"import pathlib\nlog = pathlib.Path({str(tmp_path / 'log')!r})\n"
                                             f"log.open('a').write('{name} ')\n")  # fmt: skip
    one, two = str(tmp_path / "one.py"), str(tmp_path / "two.py")
    assert command.main(["--plugin", one, "list", f"--plugin={two}", "--plugin", one]) == 0
    assert (tmp_path / "log").read_text() == "one two "
    assert called == [("command", "list")]
    assert load_plugins(["sweep", "--recipe", "mine: saliency=wanda"]) == [
        "sweep",
        "--recipe",
        "mine: saliency=wanda",
    ]


def test_a_dataclass_in_a_plugin_knows_its_module(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n"
    )
    load_plugin(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "failed with ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (None, "is not a Python file"),
    ],
)
def test_a_plugin_that_fails_is_named(called, tmp_path, capsys, text, words):
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    assert command.main(["--plugin", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert words in line
    assert called == []
    with pytest.raises(UserError):  # not taken for loaded the second time
        load_plugin(path)
