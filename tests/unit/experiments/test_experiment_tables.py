"""What surrounds a run: levels, recipes, prompt sets, results files, tables, exports, presets."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.curves_png import HEIGHT, WIDTH, draw_curves, round_ticks
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.export import as_csv, caption, export
from dit_prune_viz.experiments.levels import Level, parse_level, parse_levels
from dit_prune_viz.experiments.presets import PRESETS, find_preset
from dit_prune_viz.experiments.prompts import PromptSet, held_out, read_prompts, split
from dit_prune_viz.experiments.results import Results, Row
from dit_prune_viz.experiments.table import difference, markdown, savings, tabulate
from dit_prune_viz.figures import style
from dit_prune_viz.pipelines.prompts import SCENES
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, NamedRecipe, find_recipes, parse_named_recipe
from dit_prune_viz.pruning.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "level", "label"),
    [
        ("50", Level(0.5), "50 %"),
        (" 62.5 % ", Level(0.625), "62.5 %"),
        (30, Level(0.3), "30 %"),
        ("0", Level(0.0), "0 %"),
        ("100", Level(1.0), "100 %"),
        ("2:4", Level(0.5, "2:4"), "2:4"),
        ("1:4", Level(0.75, "1:4"), "1:4"),
        ("57", Level(0.57), "57 %"),
    ],
)
def test_levels(text, level, label):
    assert parse_level(text) == level
    assert level.label == label


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "101", "nan", "inf", "4:2", "0:4", "2:", ":4", "2:4:8", True, None, "9" * 99]
)
def test_no_levels(text):
    with pytest.raises(UserError, match="from 0 to 100"):
        parse_level(text)


def test_a_share_is_not_taken_for_percent():
    with pytest.raises(UserError, match=r"write 50 instead of 0\.5"):
        parse_level("0.5")


def test_a_list_of_levels_has_each_once():
    assert parse_levels("50, 2:4,50 %,,30") == (Level(0.5), Level(0.5, "2:4"), Level(0.3))
    with pytest.raises(UserError, match="at least one"):
        parse_levels(" , ")


def test_recipes_are_found_by_name_and_differ():
    assert [named.name for named in find_recipes(" wanda,magnitude,wanda")] == ["wanda", "magnitude"]
    changes = [json.dumps(named.recipe.changes, sort_keys=True) for named in NAMED_RECIPES.values()]
    assert len(set(changes)) == len(NAMED_RECIPES)
    sweep = find_recipes("wanda,exponents,exponents")
    exponents = ("0.5,1", "1,1", "1.5,1", "2,1", "2.5,1", "3,1")
    assert [named.recipe for named in sweep[1:]] == [Recipe(f"stw:{pair}", "cag") for pair in exponents]
    with pytest.raises(UserError, match="choose one of dit-pruning, magnitude, wanda"):
        find_recipes("wonda")


def test_a_recipe_of_ones_own():
    text = "mine: saliency=stw:1.5,1 granularity=cag allocation=tempered:0.6 update=obs timestep=log sensitivity=yes"
    recipe = Recipe("stw:1.5,1", "cag", allocation="tempered:0.6", update="obs", timestep="log", sensitivity=True)
    assert parse_named_recipe(text) == NamedRecipe("mine", recipe)
    assert parse_named_recipe("mine: sequential=yes sensitivity=no").recipe == Recipe(sequential=True)
    assert parse_named_recipe("mine: search=distil:50").recipe == Recipe(search=("distil:50",))
    assert parse_named_recipe("mine: search=exchange+distil").recipe == Recipe(search=("swap", "distil"))
    changes = Recipe(sequential=True, search="distil:50").changes
    assert changes == {"sequential": True, "search": ["distil:50"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "is written as") for text in ("", "mine", "mine:", "mine: ", "mine: x", "mine: saliency=")),
        *((text, "is written as") for text in (": saliency=wanda", "=1: saliency=wanda")),
        ("mine: name=x", "has no 'name'"),
        ("mine: method=wanda", "has no 'method'"),
        ("mine: search=distil:some", "is a whole number, not 'some'"),
        ("wanda: saliency=magnitude", "built-in"),
        ("exchange: saliency=magnitude", "built-in"),
    ],
)
def test_no_recipe(text, words):
    with pytest.raises(UserError, match=words):
        parse_named_recipe(text)


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_prompts_one_a_line(tmp_path):
    path = write(tmp_path, "prompts.txt", "\ufeffa cat, asleep\r\n\n  two dogs \n")
    assert read_prompts(path) == PromptSet(("a cat, asleep", "two dogs"))


def test_prompts_of_parti(tmp_path):
    table = 'Prompt\tCategory\tChallenge\n"a ""big"" cat"\tAnimals\tBasic\nthe moon\tOutdoor\tx\n\tEmpty\tx\n'
    expected = PromptSet(('a "big" cat', "the moon"), ("Animals", "Outdoor"))
    assert read_prompts(write(tmp_path, "PartiPrompts.tsv", table)) == expected
    assert read_prompts(write(tmp_path, "a.csv", 'id, PROMPT \n1,"a cat, asleep"\n2\n')) == PromptSet(
        ("a cat, asleep",)
    )


def test_prompts_of_mjhq(tmp_path):
    meta = {"0a": {"category": "people", "prompt": "a man"}, "0b": {"category": "food", "prompt": "a pie"}}
    expected = PromptSet(("a man", "a pie"), ("people", "food"))
    assert read_prompts(write(tmp_path, "meta_data.json", json.dumps(meta))) == expected
    assert read_prompts(write(tmp_path, "list.json", '["a man", {"prompt": "a pie"}]')).prompts == ("a man", "a pie")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "\n \n", "no prompts"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.csv", "name\na cat\n", "no column Prompt"),
        ("a.csv", "", "no column Prompt"),
        ("a.tsv", "Prompt\n" + "x" * 200_000, "not a readable table"),
        ("a.json", "{", "not readable JSON"),
        ("a.json", "3", 'without a "prompt"'),
        ("a.json", '[{"prompt": 3}]', 'without a "prompt"'),
    ],
)
def test_prompt_files_that_cannot_be_used(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words):
        read_prompts(write(tmp_path, name, content))
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "nothing")


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    st.integers(0, 9),
    st.data(),
)
def test_a_sample_takes_from_every_category_alike(categories, seed, data):
    chosen = PromptSet(tuple(f"{category}{place}" for place, category in enumerate(categories)), tuple(categories))
    count = data.draw(st.integers(1, len(categories)))
    sample = chosen.sample(count, seed)
    assert len(set(sample)) == count
    assert sample == chosen.sample(len(categories), seed)[:count]
    taken = {category: sum(prompt[0] == category for prompt in sample) for category in set(categories)}
    for category, number in taken.items():
        if number < categories.count(category):
            assert number >= max(taken.values()) - 1


def test_a_sample_depends_on_its_seed():
    chosen = PromptSet(SCENES)
    assert chosen.sample(5, 1) == chosen.sample(5, 1)
    assert len({chosen.sample(5, seed) for seed in range(5)}) == 5
    with pytest.raises(UserError, match="fewer than the 33"):
        chosen.sample(33)


@given(st.lists(st.text("abcdef", min_size=1, max_size=2), min_size=2, max_size=40), st.data())
def test_evaluation_is_held_out_from_calibration(prompts, data):
    unique = set(prompts)
    if len(unique) < 2:
        with pytest.raises(UserError, match="left for calibration"):
            split(prompts, 1)
        return
    count = data.draw(st.integers(1, len(unique) - 1))
    evaluation, calibration = split(prompts, count, seed=3)
    assert len(set(evaluation)) == len(evaluation) == count
    assert calibration
    assert not set(evaluation) & set(calibration)
    assert set(evaluation) | set(calibration) <= unique
    assert set(calibration) <= set(held_out(prompts, evaluation))
    if 2 * count <= len(unique):
        assert calibration == split(prompts, 1, seed=3)[1]


def test_nothing_left_for_calibration():
    with pytest.raises(UserError, match="left for calibration"):
        split(SCENES, 32)
    with pytest.raises(UserError, match="in the evaluation too"):
        held_out(SCENES[:2], SCENES)


def row(recipe, level, seed, nbytes=None, **scores):
    sparsity = parse_level(level).sparsity
    return Row("e", recipe, recipe, parse_level(level).label, sparsity, seed, 0.1, 2.0, 3.0, scores, nbytes=nbytes)


def test_results_survive_a_kill_at_any_byte(tmp_path):
    path = tmp_path / "whole.jsonl"
    whole = Results(path)
    rows = [row("a", "50", 0, ssim=[0.5, None]), row("ä\n", "2:4", 1, nbytes=12, ssim=[0.25])]
    for each in rows:
        whole.append(each)
    assert Results(path).rows == rows
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(0, len(content) + 1, 7):
        part = tmp_path / "part.jsonl"
        part.write_bytes(content[:cut])
        read = Results(part)
        assert read.rows == rows[: content[:cut].count(b"\n")]
        assert (read.notice is not None) == (cut not in (0, first, len(content)))
        read.append(rows[1])
        again = Results(part)
        assert again.notice is None
        assert again.rows == [*rows[: content[:cut].count(b"\n")], rows[1]]


@pytest.mark.parametrize("line", [b"x", b"{}", b"[]", b'{"seed": 1}', b"\xff"])
def test_a_strange_line_is_named_and_nothing_is_lost(tmp_path, line):
    path = tmp_path / "results.jsonl"
    Results(path).append(row("a", "50", 0, ssim=[0.5]))
    content = path.read_bytes() + line + b"\n"
    path.write_bytes(content)
    read = Results(path)
    assert read.notice == "results.jsonl is damaged in line 2; the cells of such lines run again."
    assert read.rows == [row("a", "50", 0, ssim=[0.5])]
    assert path.read_bytes() == content
    read.append(row("b", "50", 0, ssim=[0.25]))
    assert Results(path).rows == [row("a", "50", 0, ssim=[0.5]), row("b", "50", 0, ssim=[0.25])]
    assert path.read_bytes().startswith(content)


def test_a_changed_bit_is_noticed(tmp_path):
    """Wherever it is: what is left of the row is the row that was written, or nothing."""
    path = tmp_path / "results.jsonl"
    Results(path).append(row("a", "50", 0, ssim=[0.5], clip=[88.25]))
    content = path.read_bytes()
    dropped = 0
    for place in range(len(content) - 1):
        for bit in (0, 4):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            found = Results(path)
            assert found.rows in ([], [row("a", "50", 0, ssim=[0.5], clip=[88.25])])
            dropped += found.rows == []
    assert dropped > 1.5 * len(content)


def test_a_full_disk_spoils_no_later_row(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    first, second, third = (row(name, "50", 0, ssim=[0.5]) for name in "abc")
    results = Results(path)
    results.append(first)
    whole = path.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            results.append(second)
    assert path.read_bytes() == whole
    with path.open("ab") as file:  # another run, killed in the middle of a line
        file.write(b'{"experiment": "ha')
    results.append(third)
    read = Results(path)
    assert read.rows == [first, third]
    assert "line 2" in read.notice


def test_rows_without_bytes_are_read(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path).append(row("a", "50", 0, nbytes=7, ssim=[0.5]))
    written = json.loads(path.read_text())
    assert written.pop("nbytes") == 7
    del written["crc32"]
    path.write_text(json.dumps(written) + "\n")  # as an earlier version wrote it
    assert Results(path).rows == [row("a", "50", 0, ssim=[0.5])]
    for wrong in ("many", -1, 0.5):
        path.write_text(json.dumps({**written, "nbytes": wrong}) + "\n")
        assert Results(path).rows == []


def test_what_is_saved_by_size():
    rows = [row("dense", "0", 0, nbytes=80_000_000, ssim=[1.0], clip=[88.0])]
    rows += [row("a", "50", seed, nbytes=32_000_000, ssim=[0.5 + seed / 10], clip=[80.0]) for seed in (0, 1)]
    rows += [row("int8", "0", 0, nbytes=45_000_000, ssim=[0.99], clip=[87.5]), row("slow", "70", 0, ssim=[0.9])]
    assert savings(tabulate(rows)).splitlines() == [
        "| stored | MB | smaller | SSIM | CLIP |",
        "|---|---|---|---|---|",
        "| dense | 80.0 | 1.00× | 1.000 | 88.00 |",
        "| int8 | 45.0 | 1.78× | 0.990 | 87.50 |",
        "| a 50 % | 32.0 | 2.50× | 0.550 ± 0.071 | 80.00 |",
    ]
    large = [row("dense", "0", 0, nbytes=23_800_000_000), row("a", "50", 0, nbytes=8_700_000_000, ssim=[0.5])]
    assert savings(tabulate(large)).splitlines()[2:] == [
        "| dense | 23.80 | 1.00× | – |",
        "| a 50 % | 8.70 | 2.74× | 0.500 |",
    ]
    assert savings(tabulate(large[1:])).endswith("| a 50 % | 8.70 | – | 0.500 |")
    assert savings(tabulate(rows[-1:])) == ""


def test_recipes_with_one_sparsity_have_one_cell():
    half = NamedRecipe("half", Recipe("wanda", "2:4"))
    recipes = (*find_recipes("wanda,int8,int4"), half)
    levels = parse_levels("50,2:4,70")
    asked = Experiment(recipes, levels, ("a",), ("b",))
    assert [(named.name, level.label) for named, level in asked.cells()] == [
        ("int8", "0 %"),
        ("int4", "0 %"),
        ("half", "2:4"),
        *(("wanda", label) for label in ("50 %", "2:4", "70 %")),
    ]
    assert all(level.of(named.recipe) == named.recipe for named, level in asked.cells()[:3])


def test_a_table_against_numpy():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 4))
    rows = [row(name, "50", seed, ssim=values[i, seed].tolist()) for i, name in enumerate("ab") for seed in range(3)]
    one, other = tabulate(rows)
    assert (one.recipe, one.level, one.seeds, one.prompts) == ("a", "50 %", 3, 4)
    assert one.figures["ssim"].mean == pytest.approx(values[0].mean())
    assert other.figures["ssim"].spread == pytest.approx(values[1].mean(1).std(ddof=1))
    assert one.figures["clip"] is None
    gap = difference(rows, "ssim", ("b", "50 %"), ("a", "50 %"))
    paired = (values[1] - values[0]).mean(1)
    assert (gap.mean, gap.spread, gap.seeds) == (pytest.approx(paired.mean()), pytest.approx(paired.std(ddof=1)), 3)
    assert difference(rows, "clip", ("b", "50 %"), ("a", "50 %")) is None
    assert difference(rows, "ssim", ("b", "50 %"), ("a", "60 %")) is None


def test_clip_means_are_cut_off_at_zero_after_averaging():
    """By hand: seeds of the first have the means 10 and −20, over both −5; those of the second 4 and 8."""
    rows = [row("a", "80", 0, clip=[30.0, -10.0]), row("a", "80", 1, clip=[-10.0, -30.0])]
    rows += [row("b", "80", 0, clip=[-2.0, 10.0]), row("b", "80", 1, clip=[8.0, None])]
    assert [each.mean("clip") for each in rows] == [10, 0, 4, 8]
    one, other = tabulate(rows)
    assert (one.figures["clip"].mean, one.figures["clip"].spread) == (0, pytest.approx(30 / 2**0.5))
    assert (other.figures["clip"].mean, other.figures["clip"].spread) == (6, pytest.approx(4 / 2**0.5))
    cells = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [float(cell["clip"]) for cell in cells] == [10, 0, 4, 8]
    gap = difference(rows, "clip", ("b", "80 %"), ("a", "80 %"))  # of the second seed the first prompt alone is paired
    assert (gap.mean, gap.spread) == (6, pytest.approx(24 / 2**0.5))
    assert difference(rows, "clip", ("a", "80 %"), ("b", "80 %")).mean == -6


def test_the_spread_of_one_seed_is_the_standard_error_over_its_prompts():
    values = np.random.default_rng(1).normal(size=12)
    one, alone = tabulate([row("a", "50", 0, ssim=[*values.tolist(), None]), row("b", "50", 0, ssim=[0.5])])
    assert one.figures["ssim"].spread == pytest.approx(values.std(ddof=1) / 12**0.5)
    assert one.spread_words == "standard error over prompts"
    assert alone.figures["ssim"].spread == 0
    two = tabulate([row("a", "50", seed, ssim=values.tolist()) for seed in (0, 1)])
    assert (two[0].figures["ssim"].spread, two[0].spread_words) == (0, "spread over seeds")


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (79.2, 88.9, ["80", "82", "84", "86", "88"]),
        (0.6431, 0.9612, ["0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]),
        (27, 83, ["30", "40", "50", "60", "70", "80"]),
        (-0.0015, 0.011, ["0.000", "0.002", "0.004", "0.006", "0.008", "0.010"]),
    ],
)
def test_ticks_are_round_numbers(low, high, labels):
    ticks = round_ticks(low, high)
    assert [text for _, text in ticks] == labels
    assert [value for value, _ in ticks] == pytest.approx([float(text) for text in labels])


def test_the_picture_says_what_was_measured():
    description = {
        "model": "tiny",
        "drawing": {"steps": 4, "guidance_scale": 3.5, "width": 64, "height": 32},
        "clip": "a CLIP",
        "dtype": "torch.float32",
    }
    rows = [row("dense", "0", 7, clip=[80.0, 90.0]), row("a", "50", 7, clip=[70.0, 90.0])]
    assert caption(rows, description) == [
        "tiny, 2 prompts, seed 7, 4 steps, guidance 3.5, 64 by 32 pixels, float32",
        "CLIP by a CLIP. Whiskers: standard error over prompts.",
    ]
    assert caption([*rows, row("a", "2:4", 8, clip=[70.0])], {})[1].endswith("Open marks: N:M patterns.")
    assert caption(rows[:1], description) == []


def test_the_dense_model_s_clip_score_is_a_line_across_the_picture():
    lines = tabulate([row("dense", "0", 0, clip=[88.0]), *(row("a", level, 0, clip=[70.0]) for level in ("30", "70"))])

    def longest(lines) -> int:
        """Grey pixels in the row of the first panel that has most of them, without the grid, which is paler."""
        panel = np.asarray(draw_curves(lines))[:HEIGHT, :WIDTH].astype(int)
        grey = (panel.max(2) - panel.min(2) < 12) & (panel.mean(2) < 215)
        return int(grey.sum(axis=1).max())

    assert longest(lines) > WIDTH / 5  # dotted
    assert longest(lines[1:]) < WIDTH / 8


def test_marks_are_those_of_the_page():
    """Of every symbol of the page the mark in the legend has the extent and the fill that it has there."""
    rows = [row(name, "50", 0, ssim=[0.5]) for name in map(str, range(len(style.SYMBOLS)))]
    picture = np.asarray(draw_curves(tabulate(rows)))
    legend = picture[-(24 * 3 + 12) :]
    filled = {}
    for place, symbol in enumerate(style.SYMBOLS):
        colour = tuple(int(style.colour(place)[at : at + 2], 16) for at in (1, 3, 5))
        x, y = 20 + place % 4 * (picture.shape[1] - 40) // 4, place // 4 * 24 + 12
        box = legend[y - 8 : y + 9, x - 8 : x + 9]
        filled[symbol] = int((abs(box.astype(int) - colour) < 40).all(2).sum())
    assert min(filled.values()) > 15
    assert filled["square"] > filled["triangle-up"]
    assert filled["pentagon"] > filled["star"]
    assert filled["hexagram"] > filled["star"]


def test_markdown_has_a_row_per_recipe_and_a_column_per_level():
    rows = [row("dense", "0", 0, ssim=[1]), row("a", "50", 0, ssim=[0.5]), row("a", "50", 1, ssim=[0.7])]
    text = markdown(tabulate([*rows, row("b", "2:4", 0, ssim=[0.25])]), "ssim")
    assert text.splitlines() == [
        "| SSIM | 50 % | 2:4 |",
        "|---|---|---|",
        "| a | 0.600 ± 0.141 | – |",
        "| b | – | 0.250 |",
    ]


def test_files_for_other_programs(tmp_path):
    rows = [row("dense", "0", 0, ssim=[1.0], psnr=[None])]
    rows += [row(name, level, 0, ssim=[0.25, 0.5], psnr=[20, 30]) for name in "ab" for level in ("30", "50", "2:4")]
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [line["recipe"] for line in table] == ["dense", *"aaabbb"]
    assert (table[1]["ssim"], table[1]["psnr"], table[1]["clip"], table[0]["psnr"]) == ("0.375", "25.0", "", "")
    assert {line["nbytes"] for line in table} == {""}
    paths = export(rows, {"model": "tiny"}, tmp_path / "new")
    assert [path.name for path in paths] == ["results.csv", "results.json", "results.png"]
    content = json.loads(paths[1].read_text())
    assert content["experiment"] == {"model": "tiny"}
    assert [Row(**cell) for cell in content["cells"]] == rows
    picture = np.asarray(Image.open(paths[2]))
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(86, 180, 233), (230, 159, 0)} <= colours  # a curve for each of the two, in the page's colours


def test_files_with_sizes_have_them_in_every_form(tmp_path):
    rows = [row("dense", "0", 0, nbytes=9_000_000, ssim=[1.0])]
    rows += [row("a", level, 0, nbytes=nbytes, ssim=[0.5]) for level, nbytes in (("50", 5_000_000), ("70", 3_000_000))]
    paths = export(rows, {}, tmp_path)
    table = list(csv.DictReader(paths[0].open()))
    assert [line["nbytes"] for line in table] == ["9000000", "5000000", "3000000"]
    content = json.loads(paths[1].read_text())
    assert [line["nbytes"] for line in content["table"]] == [9_000_000, 5_000_000, 3_000_000]
    picture = np.asarray(Image.open(paths[2]))
    blue = (picture == (86, 180, 233)).all(2)
    # SSIM and predicted damage, each over sparsity on the left and over size on the right, and the legend.
    assert picture.shape[1] == 2 * WIDTH
    top = picture.shape[0] - 2 * HEIGHT - 36  # below the caption, above the legend
    panels = [blue[y : y + HEIGHT, x : x + WIDTH] for y in (top, top + HEIGHT) for x in (0, WIDTH)]
    centres = [np.flatnonzero(panel.any(0)).mean() for panel in panels]
    assert all(panel.any() for panel in panels)
    assert centres[1] < centres[0]  # the dense model's mark takes the right part of the axis


def test_a_picture_of_nothing_but_the_dense_model(tmp_path):
    assert all(path.stat().st_size for path in export([row("dense", "0", 0, ssim=[1.0])], {}, tmp_path))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_presets_hold_together(preset):
    assert find_preset(preset.name) is preset
    recipes, levels = find_recipes(preset.methods), parse_levels(preset.sparsities)
    cells = {(named.name, level.label) for named in recipes for level in levels}
    assert set(preset.published) <= cells
    assert all(0 < score < 1 for scores in preset.published.values() for score in scores.values())
    own = preset.own_prompts()
    assert own is None or preset.prompts <= len(own.prompts)
    assert (preset.seeds, preset.first_seed) == (1, 42)
