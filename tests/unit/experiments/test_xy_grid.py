"""A grid of pictures over two settings: its axes, its cells, its pictures, and the PNG that repeats it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from quick_prune import quickly_pruned

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments import xy_grid_file
from dit_prune_viz.experiments.cli import main
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.xy_axes import MOST_VALUES, Axis
from dit_prune_viz.experiments.xy_grid import DrawnCell, Grid, draw_grid, without_block
from dit_prune_viz.experiments.xy_grid_file import KEY, plan_of_values, read_grid, scores_in_words, write_grid
from dit_prune_viz.experiments.xy_plan import Start, plan_grid, starts_dense
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.pictures import ssim
from dit_prune_viz.pruning.recipe import Recipe

REQUEST = Request("a cat", seed=3, steps=2)
START = Start(REQUEST, Recipe("magnitude", sparsity=0.6), Level(0.4))


def drawn_alone(model, request: Request, layers=None) -> np.ndarray:
    if not layers:
        return np.asarray(generate(model, request)[0])
    with running_pruned(model, layers):
        return np.asarray(generate(model, request)[0])


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("seed: 0-3", "seed", (0, 1, 2, 3)),
        ("Seeds: 7, 1 – 9 by 4, 7", "seed", (7, 1, 5, 9)),
        ("steps:20", "steps", (20,)),
        ("guidance: 1, 3.5 to 5, 7.", "guidance", (1.0, 3.5, 4.5, 7.0)),
        ("guidance scale: 0.5-1.5 by .5", "guidance", (0.5, 1.0, 1.5)),
        ("sparsity: 30-65 by 10, 2:4", "sparsity", (*map(Level, (0.3, 0.4, 0.5, 0.6)), Level(0.5, "2:4"))),
        ("sparsities: 50-30 %", "sparsity", (Level(0.5), Level(0.4), Level(0.3))),
        ("recipe: dit-pruning, present ,dense", "recipe", ("dit-pruning", "present", "dense")),
        ("method: stw:1.5,1; wanda", "recipe", ("stw:1.5,1", "wanda")),
        ("prompt: a cat, asleep\n\n a bus; red \na cat, asleep", "prompt", ("a cat, asleep", "a bus; red")),
        ("block: none, 2-0", "block", (None, 2, 1, 0)),
        ("block: -1-1", "block", (-1, 0, 1)),
    ],
)
def test_values_are_read_as_people_write_them(text, kind, values):
    assert Axis.parse(text) == Axis(kind, values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour: red", "An axis of a grid is one of recipe, sparsity, .* not 'colour'"),
        ("seed", "The axis seed has no values; write them like '0-3'"),
        ("prompt: \n ", "The axis prompt has no values"),
        ("seed: 1.5", "a whole number, not 1.5"),
        ("seed: one", "The axis seed cannot be 'one'"),
        ("guidance: nan", "The axis guidance cannot be 'nan'"),
        ("guidance: 1e999", "cannot be '1e999'"),
        ("sparsity: 0.5", "write 50 instead of 0.5"),
        ("sparsity: 130", "from 0 to 100"),
        ("seed: 0-10 by 0", "by a number above 0"),
        ("seed: 0-4294967295", f"more than {MOST_VALUES} values"),
        ("seed: " + ",".join(map(str, range(40))), f"more than {MOST_VALUES} values"),
        ("seed: " + "9" * 5000, "The axis seed cannot be"),
        ("recipe: \ud83d", "has a character that is none"),
    ],
)
def test_what_is_no_axis_is_a_sentence(text, words):
    with pytest.raises(UserError, match=words):
        Axis.parse(text)


def test_cells_by_hand(flux):
    """Named recipes prune as much as the one at hand unless sparsity is an axis; dense stays dense at every level."""
    checked = replace(REQUEST, guidance_scale=3.0, height=64, width=64)
    plan = plan_grid(flux, Axis.parse("seed: 3, 9"), Axis.parse("recipe: present, wanda, dense"), START)
    recipes = [START.recipe, Recipe("wanda", sparsity=0.4), None]
    assert [(c.row, c.column, c.recipe, c.block, c.request) for c in plan.cells] == [
        (row, column, recipe, None, replace(checked, seed=seed))
        for row, recipe in enumerate(recipes)
        for column, seed in enumerate((3, 9))
    ]
    assert plan.recipes == (None, *recipes[:2])
    assert plan.rows.labels == ("present: Magnitude", "Wanda", "dense")
    assert plan.columns.labels == ("seed 3", "seed 9")

    plan = plan_grid(flux, Axis.parse("sparsity: 30, 2:4"), Axis.parse("recipe: int8, wanda, dense"), START)
    int8 = plan.cells[0].recipe
    assert [cell.recipe for cell in plan.cells] == [
        *(int8, int8),
        *(Recipe("wanda", sparsity=0.3), Recipe("wanda", "2:4")),
        *(None, None),
    ]
    assert (int8.saliency, int8.sparsity) == ("none", 0.0)

    plan = plan_grid(flux, Axis.parse("block: none, 3"), Axis.parse("guidance: 1"), replace(START, recipe=None))
    assert [(cell.recipe, cell.block, cell.request.guidance_scale) for cell in plan.cells] == [
        (None, None, 1.0),
        (None, 3, 1.0),
    ]
    assert plan.columns.labels == ("all blocks", "without block 3")
    assert starts_dense(Axis.parse("block: 1"), Axis.parse("seed: 1"))
    assert not starts_dense(Axis.parse("block: 1"), Axis.parse("sparsity: 50"))


@pytest.mark.parametrize(
    ("columns", "rows", "start", "words"),
    [
        ("seed: 1", "seed: 2", START, "Both axes of the grid are seed"),
        ("seed: 0-19", "steps: 1-6", START, "120 pictures, but 100 are the most"),
        ("block: 4", "seed: 1", START, "no block 4; its blocks are 0 to 3"),
        ("recipe: wnada", "seed: 1", START, "There is no recipe 'wnada'"),
        ("recipe: present", "seed: 1", replace(START, recipe=None), "no recipe to prune by"),
        ("sparsity: 50", "seed: 1", replace(START, recipe=None), "no recipe to prune by"),
        ("sparsity: 2:4", "recipe: cag", START, "cag at 2:4: This recipe ranks weights in groups of its own"),
        ("steps: 300", "seed: 1", START, "The number of steps must be a whole number"),
        ("seed: -1", "steps: 1", START, "The seed must be a whole number"),
        ("seed: 1", "steps: 1", Start(Request(" ", 0, 1)), "The prompt is empty"),
    ],
)
def test_a_grid_that_cannot_be_drawn_is_a_sentence_before_the_work(flux, columns, rows, start, words):
    with pytest.raises(UserError, match=words):
        plan_grid(flux, Axis.parse(columns), Axis.parse(rows), start)


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_clip(tiny_clip, name="tiny CLIP")


@pytest.fixture
def made():
    """The recipes that were asked for, and a quick pruner that notes them."""
    asked = []

    def make(model, recipe, progress):
        asked.append(recipe)
        return quickly_pruned(model, recipe)

    return asked, make


def test_every_cell_is_the_picture_that_is_drawn_alone(flux, clip, made):
    """Also with a block dropped; each recipe is made once, the dense picture of a request drawn once."""
    asked, make = made
    before = {name: tensor.clone() for name, tensor in flux.transformer.state_dict().items()}
    plan = plan_grid(flux, Axis.parse("block: none, 1"), Axis.parse("recipe: present, dense"), START)
    emitted, told = [], []
    grid = draw_grid(
        flux,
        plan,
        lambda recipe, progress: make(flux, recipe, progress),
        clip=clip,
        progress=lambda done, total, what: told.append((done, total)),
        emit=emitted.append,
    )
    assert asked == [START.recipe]
    assert list(grid.drawn) == emitted
    assert {total for _, total in told} == {8}  # 3 cells that are not dense and one dense picture, 2 steps each
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (8, 8)
    after = flux.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)

    pruned = quickly_pruned(flux, START.recipe)
    cells = {(drawn.cell.row, drawn.cell.column): drawn for drawn in grid.drawn}
    gone = without_block(flux, pruned.layers, 1)
    removed = {name for name, layer in gone.items() if layer.mask.kept == 0}
    assert removed == {layer.name for layer in flux.layers if layer.block == 1}
    expected = {
        (0, 0): drawn_alone(flux, REQUEST, pruned.layers),
        (0, 1): drawn_alone(flux, REQUEST, gone),
        (1, 0): drawn_alone(flux, REQUEST),
        (1, 1): drawn_alone(flux, REQUEST, {name: gone[name] for name in removed}),
    }
    for place, pixels in expected.items():
        assert np.array_equal(np.asarray(cells[place].image), pixels), place
        similar = ssim(Image.fromarray(expected[1, 0]), Image.fromarray(pixels))
        assert cells[place].ssim == pytest.approx(similar)
        score = max(float(clip.score([Image.fromarray(pixels)], ["a cat"])[0]), 0)
        assert cells[place].clip == pytest.approx(score)
        assert cells[place].dense_clip == cells[1, 0].clip
    assert cells[1, 0].ssim == 1
    assert not np.array_equal(expected[0, 0], expected[0, 1])


def test_a_cancelled_grid_stops_at_a_step_and_leaves_the_model(flux, made):
    _, make = made
    before = {name: tensor.clone() for name, tensor in flux.transformer.state_dict().items()}
    plan = plan_grid(flux, Axis.parse("seed: 0-2"), Axis.parse("recipe: present"), START)
    emitted = []

    def stop(done: int, total: int, what: str) -> None:
        if done == 7:  # the first step of the second seed's pruned picture
            raise Cancelled

    with pytest.raises(Cancelled):
        draw_grid(flux, plan, lambda *asked: make(flux, *asked), progress=stop, emit=emitted.append)
    assert [drawn.cell.column for drawn in emitted] == [0]
    assert flux.lock.free
    after = flux.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not [name for name, module in flux.transformer.named_modules() if "forward" in vars(module)]


@pytest.fixture(scope="module")
def command(tiny_flux, tiny_clip, tmp_path_factory):
    """A grid drawn by the command, and the command without its axes."""
    out = tmp_path_factory.mktemp("grids") / "grid.png"
    base = ["grid", str(tiny_flux), "--clip", str(tiny_clip), "--device", "cpu", "--cache", "off"]
    axes = ["--x", "prompt", "--prompt", "a cat", "--prompt", "a red bus", "--y", "recipe: magnitude; stw:1,1; dense"]
    settings = ["--sparsity", "62.5", "--samples", "4", "--steps", "2", "--seed", "5", "--guidance", "2"]
    assert main([*base, *axes, *settings, "--out", str(out)]) == 0
    return base, out


def test_the_png_says_what_it_takes_to_draw_it_again(command, flux, tmp_path):
    base, out = command
    again = tmp_path / "again.png"
    assert main([*base, "--repeat", str(out), "--out", str(again)]) == 0
    with Image.open(out) as first, Image.open(again) as second:
        assert first.text == second.text
        assert np.array_equal(np.asarray(first), np.asarray(second))
        values = json.loads(first.text[KEY])
    assert values["model"]["fingerprint"] == flux.fingerprint
    assert values["clip"] == "tiny-clip"
    assert [(cell["row"], cell["column"], cell["recipe"]) for cell in values["cells"]] == [
        *((0, 0, 0), (0, 1, 0)),
        *((1, 0, 1), (1, 1, 1)),
        *((2, 0, None), (2, 1, None)),
    ]
    request = {"prompt": "a red bus", "seed": 5, "steps": 2, "guidance_scale": 2.0, "height": 64, "width": 64}
    assert values["cells"][1]["request"] == request
    assert values["recipes"][0]["sparsity"] == 0.625
    assert values["recipes"][0]["calibration"]["samples"] == 4
    assert values["cells"][4]["ssim"] == 1
    plan = read_grid(out, flux)
    (pixels,) = (np.asarray(generate(flux, cell.request)[0]) for cell in plan.cells[4:5])
    with Image.open(out) as sheet:
        assert _holds(np.asarray(sheet), pixels.repeat(2, 0).repeat(2, 1))  # small pictures are enlarged


def _holds(sheet: np.ndarray, part: np.ndarray) -> bool:
    """Whether a picture stands somewhere on a sheet, bit for bit."""
    height, width = part.shape[:2]
    rows, columns = np.nonzero((sheet == part[0, 0]).all(-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], part) for y, x in zip(rows, columns, strict=True))


def test_a_png_of_something_else_is_a_sentence(command, flux, sana, tmp_path):
    _, out = command
    with pytest.raises(UserError, match=r"drawn with tiny-flux in float32 .* this is tiny-sana"):
        read_grid(out, sana)
    with pytest.raises(UserError, match="cannot be read"):
        read_grid(tmp_path / "none.png", flux)
    plain = tmp_path / "plain.png"
    Image.new("RGB", (4, 4)).save(plain)
    with pytest.raises(UserError, match="does not say how it was drawn"):
        read_grid(plain, flux)
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, "{")
    Image.new("RGB", (4, 4)).save(plain, pnginfo=info)
    with pytest.raises(UserError, match="cannot be read; give it as it was written"):
        read_grid(plain, flux)
    with Image.open(out) as sheet:
        values = json.loads(sheet.text[KEY])

    def broken(**changes) -> dict:
        return {**values, **changes}

    first = values["cells"][0]
    for other, words in (
        ([], "must be|is a JSON object"),
        (broken(schema=9), "schema 9"),
        (broken(cells=values["cells"][1:]), "do not fit its rows and columns"),
        (broken(cells=[{**first, "recipe": 7}]), "A cell's recipe"),
        (broken(cells=[{**first, "block": 99}]), "no block 99"),
        (broken(cells=[{**first, "request": {"prompt": "x"}}]), "lacks its prompt, seed or steps"),
        (broken(cells=[{**first, "request": {**first["request"], "picture": "0" * 64}}]), "starts from a picture"),
        (broken(rows={"kind": "colour", "labels": ["x"]}), "An axis of a grid"),
        (broken(recipes=[{"saliency": "nothing"}]), "nothing"),
        (broken(more=1), "has no 'more'"),
    ):
        with pytest.raises(UserError, match=words):
            plan_of_values(other, flux)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--x", "seed: 1"], "give --y, such as"),
        (["--x", "seed: 1", "--y", "steps: 1", "--repeat", "grid.png"], "leave --x and --y out"),
        (["--x", "seed: 1", "--y", "steps: 1", "--out", "grid.jpg"], "does not end in .png"),
        (["--x", "seed: 1", "--y", "steps: 1", "--model", "other"], "The model is given twice"),
    ],
)
def test_what_the_command_refuses_before_it_loads_a_model(arguments, words, capsys, tmp_path):
    assert main(["grid", "nowhere", "--out", str(tmp_path / "grid.png"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_captions_name_everything(flux, made, monkeypatch, tmp_path):
    """A part of a grid leaves gaps; the footer names what no axis says."""
    _, make = made
    plan = plan_grid(flux, Axis.parse("seed: 1, 2"), Axis.parse("recipe: dense, wanda"), START)
    grid = draw_grid(flux, plan, lambda *asked: make(flux, *asked))
    assert scores_in_words(grid.drawn[0]) == ("SSIM 1.000",)
    seen = {}
    sheet = xy_grid_file.picture_grid
    monkeypatch.setattr(
        xy_grid_file, "picture_grid", lambda *given, **named: seen.update(named, given=given) or sheet(*given, **named)
    )
    write_grid(Grid(plan, grid.drawn[:3], ""), flux, tmp_path / "part.png")
    pictures, rows, columns = seen["given"]
    assert (rows, columns) == (("dense", "Wanda"), ("seed 1", "seed 2"))
    assert [[one is None for one in row] for row in pictures] == [[False, False], [False, True]]
    text = " ".join(seen["footer"])
    for words in (
        f"Model: tiny-flux, fingerprint {flux.fingerprint[:16]}, float32 on cpu.",
        "Drawn with: dense model; Wanda, 40 %.",
        "Calibration: 128 inputs, seed 0.",
        "Prompt: a cat, 2 steps, guidance 3, 64 × 64 pixels.",
        "dit_prune_viz 0.1.0",
    ):
        assert words in text
    assert "seed 3" not in text
    assert read_grid(tmp_path / "part.png", flux) == plan


def test_a_recipe_that_is_too_large_stays_behind_and_that_is_told(flux, monkeypatch, tmp_path):
    layer = {"layer": flux.layers[0].name, "sparsity": 0.9}
    recipe = Recipe.from_dict({"saliency": "magnitude", "tuned": [layer]})
    plan = plan_grid(flux, Axis.parse("seed: 1"), Axis.parse("recipe: present"), replace(START, recipe=recipe))
    grid = Grid(plan, (DrawnCell(plan.cells[0], Image.new("RGB", (64, 64)), None, None, 1.0),), "")
    write_grid(grid, flux, tmp_path / "small.png")
    assert read_grid(tmp_path / "small.png", flux) == plan
    monkeypatch.setattr(xy_grid_file, "_MOST_TEXT", 100)
    write_grid(grid, flux, tmp_path / "large.png")
    assert any("too large to go along" in fact for fact in xy_grid_file._footer(grid, flux))
    with pytest.raises(UserError, match="too large to go along"):
        read_grid(tmp_path / "large.png", flux)
