"""The README's own code runs as printed, and its tables name what there is."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from readme import DOCS, README, ROOT, blocks, python_block, table

import dit_prune_viz
from dit_prune_viz.app import parts_command, serve
from dit_prune_viz.command import COMMANDS, PARTS
from dit_prune_viz.experiments import cli
from dit_prune_viz.experiments.results import Results
from dit_prune_viz.experiments.table import savings, tabulate
from dit_prune_viz.methods import registry
from dit_prune_viz.plugins import load_plugin
from dit_prune_viz.pruning.named_recipes import find_recipe


def test_notebook_example_runs(monkeypatch, capsys):
    """With a few steps of distillation, whose full number takes minutes."""
    monkeypatch.chdir(ROOT)
    assert find_recipe("distilled-mask").search == ("distil",)
    code = python_block("load_model(")
    assert '"distilled-mask"' in code
    names: dict[str, object] = {}
    exec(code.replace('"distilled-mask"', 'dpv.Recipe(search="distil:2")'), names)
    assert "0.7000 pruned" in capsys.readouterr().out
    mask, weight = names["mask"], names["model"].weight("transformer_blocks.0.attn.to_q")
    assert mask.dtype == torch.bool
    assert (~mask).sum() == int(mask.numel() * 0.7)
    assert weight[~mask].abs().max() > 0  # dense weights as before
    assert isinstance(names["image"], Image.Image)


def test_a_recipe_that_is_written_gives_the_same_masks(bundled, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {"model": bundled, "dpv": dit_prune_viz}
    exec(python_block("write_recipe("), names)
    made, again = dit_prune_viz.prune(bundled, names["recipe"]), names["pruned"]
    assert all(torch.equal(mask.bits, again.packed_masks[name].bits) for name, mask in made.packed_masks.items())
    adaln = [layer for layer in again.report.layers if bundled.layer(layer.name).kind == "adaLN"]
    assert max(layer.sparsity for layer in adaln) == pytest.approx(0.4, abs=1e-3)
    assert again.report.achieved == pytest.approx(0.6, abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_own_method_in_one_file(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_METHODS", {kind: dict(known) for kind, known in registry._METHODS.items()})
    path = tmp_path / "mine.py"
    path.write_text(python_block("# mine.py"), encoding="utf-8")
    load_plugin(path)
    recipe = find_recipe("mine")
    weight, norm = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([2.0, 0.5])
    torch.testing.assert_close(recipe.method.score(weight, norm), torch.tensor([[2.0, 4.0], [0.25, 13.5]]))
    assert (recipe.method.label, recipe.method.formula) == ("Mine", "|W|³·‖X‖")


def test_what_it_saves_is_what_was_measured():
    """Every row of the table is one that the command beneath it prints."""
    printed = savings(tabulate(Results(ROOT / "assets/measured/results.jsonl").rows)).splitlines()
    (command,) = [line for block in blocks(README, "bash") for line in block.splitlines() if "table --out" in line]
    assert cli._parser("dit-prune-viz").parse_args(shlex.split(command, comments=True)[1:]).out == Path(
        "assets/measured"
    )
    lines = README.read_text(encoding="utf-8").splitlines()
    start = lines.index(printed[0])
    rows = lines[start : lines.index("", start)]
    assert [row for row in rows if row not in printed] == []
    assert len(rows) >= 2 + 8


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings if name.startswith("--")}


def test_options_of_the_app_are_all_listed(monkeypatch):
    listed = {cell.strip("`") for cell, *_ in table(README, "option")[1:]}
    seen: list[argparse.ArgumentParser] = []
    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(
        argparse.ArgumentParser, "parse_args", lambda self, *given: seen.append(self) or parse(self, *given)
    )
    serve.parse([])
    assert listed == _options(seen[0]) - {"--help"}


def test_commands_are_all_listed_and_can_be_read():
    lines = [shlex.split(cell.strip("`")) for cell, *_ in table(README, "command")[1:]]
    assert all(line[0] == "dit-prune-viz" for line in lines)
    commands = [line[1:] for line in lines if len(line) > 1]
    assert {command[0] for command in commands} == set(COMMANDS)
    for name, *arguments in commands:
        if name == PARTS:
            assert parts_command._parser("dit-prune-viz parts").parse_args(arguments).out
        else:
            assert cli._parser("dit-prune-viz").parse_args([name, *arguments]).do


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'\bsrc(?:set)?="([^"]+)"', text)
    targets = [target.partition("#")[0] for target in found if not target.startswith("http")]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_recording_lasts_twenty_seconds_and_is_small():
    (path,) = (ROOT / one for one in re.findall(r'src="([^"]+\.webp)"', README.read_text(encoding="utf-8")))
    assert path.stat().st_size <= 3_000_000
    with Image.open(path) as film:
        durations = []
        for number in range(film.n_frames):
            film.seek(number)
            film.load()
            durations.append(film.info["duration"])
    assert len(durations) > 40
    assert sum(durations) == pytest.approx(20_000, rel=0.02)


def test_every_page_of_documentation_is_linked():
    text = README.read_text(encoding="utf-8")
    pages = sorted(path.name for path in DOCS.glob("*.md"))
    assert pages
    assert [name for name in pages if f"](assets/docs/{name})" not in text] == []


def test_the_first_two_commands_are_the_app_and_the_tests():
    app, tests, *_ = blocks(README, "bash")
    assert app.strip() == (
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python app.py"
    )
    assert tests.strip() == "bash tests/run.sh"
