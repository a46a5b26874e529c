"""`dit-prune-viz prune`: which word is the model, what is written where, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from dit_prune_viz.experiments import prune_command
from dit_prune_viz.experiments.cli import main
from dit_prune_viz.experiments.progress import TerminalProgress
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.pruning.recipe import Recipe

QUICK = ["--samples", "4", "--cache", "off", "--device", "cpu"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "mine.json"
    path.write_text(Recipe("magnitude", sparsity=0.3).to_json())
    return path


def zeros(transformer) -> int:
    return sum(int((parameter == 0).sum()) for name, parameter in transformer.items() if name.endswith("weight"))


def test_several_ways_lie_in_one_folder(tiny_flux, recipe, tmp_path, capsys):
    out = tmp_path / "out"
    ways = "diffusers,packed,single-file,recipe,numbers,diffusers"
    assert main(["prune", str(tiny_flux), "--recipe", str(recipe), "--out", str(out), "--as", ways, *QUICK]) == 0
    expected = ["diffusers", "numbers", "packed", "recipe.json", "tiny-flux-30.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == expected
    one, other = DiffusionPipeline.from_pretrained(out / "diffusers"), load_packed(out / "packed")
    single = load_file(out / "tiny-flux-30.safetensors")
    removed = zeros(one.transformer.state_dict())
    assert zeros(other.transformer.state_dict()) == zeros(single) == removed
    told = capsys.readouterr().out
    assert f"{removed:,} of " in told
    assert json.loads((out / "recipe.json").read_text())["sparsity"] == 0.3
    lines = told.splitlines()
    assert sum(line.startswith("To be written: ") for line in lines) == 5
    assert [line.split(" (")[0] for line in lines if line.startswith("Written: ")] == [
        f"Written: {out / name}"
        for name in ("diffusers", "packed", "tiny-flux-30.safetensors", "recipe.json", "numbers")
    ]


def test_one_way_alone_is_what_it_is_called(tiny_flux, tmp_path):
    command = ["prune", str(tiny_flux), "--recipe", "magnitude", "--sparsity", "62.5", *QUICK]
    assert main([*command, "--out", str(tmp_path / "folder")]) == 0
    assert (tmp_path / "folder" / "model_index.json").is_file()
    assert main([*command, "--out", str(tmp_path / "it.safetensors"), "--as", "single-file"]) == 0
    assert (tmp_path / "it.safetensors").is_file()
    assert main([*command, "--out", str(tmp_path / "files"), "--as", "single-file"]) == 0
    assert (tmp_path / "files" / "tiny-flux-62.5.safetensors").is_file()


def test_nothing_is_replaced_unless_asked_and_that_is_said_before_the_work(tiny_flux, tmp_path, capsys, monkeypatch):
    command = ["prune", str(tiny_flux), "--recipe", "magnitude", "--out", str(tmp_path / "it"), *QUICK]
    assert main(command) == 0
    assert main([*command, "--overwrite"]) == 0
    monkeypatch.setattr(prune_command, "load", None)  # no model is loaded for nothing
    capsys.readouterr()
    assert main(command) == 2
    assert "it exists already; choose another name, or ask for it to be overwritten." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "model", "recipe"),
    [
        ([], None, "dit-pruning"),
        (["swap"], None, "swap"),
        (["stw:1.5,1"], None, "stw:1.5,1"),
        (["mine.json"], None, "mine.json"),
        (["nothing"], None, "nothing"),
        (["swap", "--model", "org/name"], "org/name", "swap"),
        (["org/name"], "org/name", "dit-pruning"),
        (["org/name@main/sub"], "org/name@main/sub", "dit-pruning"),
        (["flux.safetensors"], "flux.safetensors", "dit-pruning"),
        (["flux.gguf", "--recipe", "swap"], "flux.gguf", "swap"),
        (["folder"], "folder", "dit-pruning"),
        (["wanda"], None, "wanda"),
        (["wanda", "--recipe", "swap"], "wanda", "swap"),
        (["ria"], "ria", "dit-pruning"),
        (["--model", "x", "--recipe", "swap"], "x", "swap"),
    ],
)
def test_which_word_is_the_model_and_which_the_recipe(arguments, model, recipe, tmp_path, monkeypatch):
    for name in ("folder", "wanda", "ria"):
        (tmp_path / name).mkdir()
    (tmp_path / "ria" / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    from dit_prune_viz.experiments.cli import _parser

    options = _parser("dit-prune-viz").parse_args(["prune", *arguments])
    assert prune_command._named(options) == (model, recipe)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "--model", "b", "--recipe", "swap"], "Both a model and a recipe are given, and 'a' too"),
        (["swap", "--as", "packed"], "--as says how to write, but not where; give --out FOLDER"),
        (["swap", "--overwrite"], "--overwrite says how to write, but not where"),
        (["swap", "--out", "x", "--as", "zip"], "--as takes diffusers, packed, single-file, recipe, report, numbers"),
        (["swap", "--out", "x", "--as", ","], "--as takes diffusers"),
        (["swap", "--out", "x", "--values", "int8"], "--values is about the packed folder; add packed to --as"),
        (["nothing"], "There is no recipe 'nothing'"),
        (["nowhere.json"], "The recipe nowhere.json cannot be read"),
        (["bad.json"], "A recipe is a JSON object"),
        (["deep.json"], "A recipe is a JSON object"),
        (["list.json"], "A recipe is a JSON object"),
        (["swap", "--sparsity", "0.5"], "Sparsities are in percent: write 50 instead of 0.5"),
        (["swap", "--out", "bad.json/x"], "Not a directory"),
        (["swap", "--out", "bad.json"], "bad.json exists already"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prune_command, "load", None)
    Path("bad.json").write_text("{")
    Path("deep.json").write_text("[" * 100_000)
    Path("list.json").write_text("[]")
    assert main(["prune", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_the_source_is_refused_as_a_target(tiny_flux, tmp_path, capsys):
    source = shutil.copytree(tiny_flux, tmp_path / "source")
    assert main(["prune", str(source), "--recipe", "magnitude", "--out", str(source), "--overwrite", *QUICK]) == 2
    assert "holds files of the model that was loaded; choose another place." in capsys.readouterr().err
    assert (source / "model_index.json").is_file()


def test_a_family_without_single_files_is_refused_before_it_is_pruned(tiny_dit, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prune_command, "prune", None)
    assert main(["prune", str(tiny_dit), "--out", str(tmp_path / "it"), "--as", "recipe,single-file", *QUICK]) == 2
    assert "No program is known to read a DiTTransformer2DModel from a single file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stopped_writing_says_so_and_leaves_nothing(tiny_flux, tmp_path, capsys, monkeypatch):
    def stop(self, done, total, what):
        if what.startswith("Writing transformer_blocks"):
            raise KeyboardInterrupt

    monkeypatch.setattr(TerminalProgress, "__call__", stop)
    command = ["prune", str(tiny_flux), "--recipe", "magnitude", "--out", str(tmp_path / "a" / "it"), *QUICK]
    assert main(command) == 130
    assert "stopped; what is written is complete, and nothing of the rest is left." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_of_another_model_is_refused_or_carried_over(tiny_flux, tiny_sana, tmp_path, capsys):
    out = tmp_path / "mine.json"
    assert main(["prune", str(tiny_flux), "--recipe", "magnitude", "--out", str(out), "--as", "recipe", *QUICK]) == 0
    command = ["prune", str(tiny_sana), "--recipe", str(out), "--out", str(tmp_path / "it"), "--as", "numbers", *QUICK]
    capsys.readouterr()
    assert main(command) == 2
    assert "carry over what fits (--carry-over)" in capsys.readouterr().err
    assert main([*command, "--carry-over"]) == 0
    assert "Left out: " in capsys.readouterr().err
    assert (tmp_path / "it" / "layers.csv").is_file()
