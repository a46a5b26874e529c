"""The pages under assets/docs: their numbers come from the measured rows, their examples run."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
import torch
from readme import DOCS, ROOT, blocks, python_block, table

import dit_prune_viz as dpv
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.experiments import cli
from dit_prune_viz.methods import registry
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.plugins import load_plugin
from dit_prune_viz.pruning.named_recipes import ALIASES, NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.prune import calibrate_for, prune
from dit_prune_viz.pruning.recipe import Recipe

MEASUREMENTS = DOCS / "measurements.md"
RECIPES = DOCS / "recipes.md"
OWN = DOCS / "own-methods.md"
NONE = "–"


def _rounded(value: float, digits: int) -> str:
    text = str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN))
    return text.removeprefix("0") if value < 1 else text


def _mean(score: str, values: list[float]) -> float:
    return mean_clip(values) if score == "clip" else sum(values) / len(values)


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str], dict[str, list[float]]]:
    """(recipe, level) → score → the values of all seeds and prompts."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    cells = set()
    for line in (ROOT / "assets/measured/results.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        cell = row["recipe"], row["level"], row["seed"]
        assert cell not in cells, f"{cell} is there twice"
        cells.add(cell)
        for score in ("clip", "ssim"):
            found[row["recipe"], row["level"]][score] += row["scores"][score]
    return found


@pytest.mark.parametrize(("corner", "score", "digits"), [("SSIM", "ssim", 3), ("CLIP", "clip", 1)])
def test_tables_are_the_measured_rows(measured, corner, score, digits):
    header, *rows = table(MEASUREMENTS, corner)
    printed = {(row[0], level): cell for row in rows for level, cell in zip(header[1:], row[1:], strict=True)}
    expected = {
        cell: _rounded(_mean(score, measured[cell][score]), digits) if cell in measured else NONE for cell in printed
    }
    assert printed == expected
    assert [cell for cell in measured if cell[0] != "dense" and cell not in printed] == []


def test_dense_clip_is_the_measured_one(measured):
    header = table(MEASUREMENTS, "CLIP")[0]
    assert header[0] == f"CLIP, dense {_rounded(_mean('clip', measured['dense', '0 %']['clip']), 1)}"


def test_measured_recipes_exist():
    names = [row[0] for row in table(MEASUREMENTS, "SSIM")[1:]]
    assert set(names) <= set(NAMED_RECIPES)


@pytest.mark.parametrize(
    "command", [line for page in DOCS.glob("*.md") for block in blocks(page, "bash") for line in block.splitlines()]
)
def test_commands_can_be_read(command):
    program, *arguments = shlex.split(command)
    assert program == "dit-prune-viz"
    options = cli._parser(program).parse_args(arguments)
    for name in (getattr(options, "methods", None) or "").split(","):
        assert not name or name in NAMED_RECIPES


def test_fields_and_named_recipes_are_all_listed():
    fields = [row[0].strip("`") for row in table(RECIPES, "field")[1:]]
    assert fields == [field.name for field in dataclasses.fields(Recipe)]
    names = [row[0].strip("`") for row in table(RECIPES, "name")[1:]]
    assert names == list(NAMED_RECIPES)
    text = RECIPES.read_text(encoding="utf-8")
    assert [name for name in ALIASES if f"`{name}`" not in text] == []


def test_defaults_are_as_listed():
    plain = Recipe()
    listed = {name.strip("`"): default for name, default, _ in table(RECIPES, "field")[1:]}
    assert listed.pop("calibration") == "128 samples, seed 0"
    assert (plain.calibration.samples, plain.calibration.seed) == (128, 0)
    for name, default in listed.items():
        assert default.strip("`") == repr(getattr(plain, name)).replace("'", '"')


def test_recipe_examples_run():
    names: dict[str, object] = {}
    exec(python_block("to_json", RECIPES), names)
    assert names["same"] == names["recipe"] == dpv.Recipe("wanda", sparsity=0.6)
    assert names["pattern"].granularity == "2:4"
    (text,) = blocks(RECIPES, "json")
    recipe = Recipe.from_json(text)
    assert recipe.to_json() != Recipe().to_json()
    given = json.loads(text)
    assert json.loads(recipe.to_json())["calibration"]["samples"] == given["calibration"]["samples"]
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.fixture
def own_methods(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_METHODS", {kind: dict(known) for kind, known in registry._METHODS.items()})
    path = tmp_path / "own.py"
    path.write_text(python_block("@dpv.register", OWN), encoding="utf-8")
    load_plugin(path)


def test_own_methods_prune(own_methods, tiny_flux):
    model = load_model(tiny_flux)
    recipe = Recipe("power:2.5", "even-half", update="rescale", calibration=CalibrationSettings(samples=8))
    statistics = Statistics(model, calibrate_for(model, recipe))
    pruned = prune(model, recipe, statistics=statistics)
    layer = next(one for one in pruned.report.layers if one.granularity == "layer")
    weight, norm = model.weight(layer.name), statistics.norm(layer.name)
    scores = (weight.double().abs() ** 2.5 * norm.double()).flatten()
    lost = scores[~pruned.masks[layer.name].flatten()]
    assert len(lost) == scores.numel() // 2
    assert lost.max() <= scores[pruned.masks[layer.name].flatten()].min() * (1 + 1e-5)
    by_g_out = sorted(pruned.report.layers, key=lambda one: one.g_out)
    rows = [one.granularity == "row" for one in by_g_out]
    assert rows == [place < len(rows) // 2 for place in range(len(rows))]
    # Every row has the energy of its outputs back; a layer with a bias has it around their mean.
    squares = statistics.mean_square(layer.name, centred=True).double()
    values = pruned.layers[layer.name].dense(weight).double()
    before, after = weight.double().square() @ squares, values.square() @ squares
    torch.testing.assert_close(after[after > 0], before[after > 0], rtol=1e-3, atol=0)


def test_own_methods_have_names(own_methods):
    assert find_recipe("power").saliency == "power"
    assert find_recipe("power:2.5").method.p == 2.5
