"""Running experiments on the tiny FLUX: what is drawn, what is kept, what happens when a run is stopped."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.cli import main
from dit_prune_viz.experiments.dense_pictures import DenseStore
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.export import as_csv
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.requests import noise_seed, requests_for
from dit_prune_viz.experiments.results import Results, unread_sentences
from dit_prune_viz.experiments.run import cell_digest, run
from dit_prune_viz.experiments.run import run as run_experiment
from dit_prune_viz.experiments.scores import score
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.stored_bytes import dense_bytes
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.methods.saliency.wanda import Wanda
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.pictures import psnr, ssim
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, NamedRecipe, find_recipes
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe

PROMPTS = ("a cat", "a red bus", "two dogs")
EXPERIMENT = Experiment(
    recipes=find_recipes("magnitude,dit-pruning"),
    levels=(Level(0.5), Level(0.7)),
    prompts=PROMPTS,
    calibration_prompts=("the moon", "a cup of tea"),
    seeds=(0, 5),
    steps=3,
    samples=8,
)
CELLS = [
    ("dense", "0 %", 0),
    ("dense", "0 %", 5),
    ("magnitude", "50 %", 0),
    ("magnitude", "50 %", 5),
    ("dit-pruning", "50 %", 0),
    ("dit-pruning", "50 %", 5),
    ("magnitude", "70 %", 0),
    ("magnitude", "70 %", 5),
    ("dit-pruning", "70 %", 0),
    ("dit-pruning", "70 %", 5),
]


@pytest.fixture(scope="module")
def finished(flux, tmp_path_factory):
    """The folder and the outcome of a whole run."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, run(flux, EXPERIMENT, folder)


def cell(row):
    return row.recipe, row.level, row.seed


def requests(model, prompts=PROMPTS, seed=0, steps=3):
    return requests_for(model, prompts, seed, Request("", 0, steps))


def test_every_cell_is_measured_once_and_in_order(finished):
    folder, outcome = finished
    assert [cell(row) for row in outcome.rows] == CELLS
    assert outcome.notice is None
    assert [cell(row) for row in Results(folder / "results.jsonl").rows] == CELLS
    assert all(row.prompts == 3 for row in outcome.rows)
    assert [row.sparsity for row in outcome.rows] == pytest.approx([0, 0, *[0.5] * 4, *[0.7] * 4], abs=0.02)


def test_the_scores_are_those_of_single_pictures(flux, finished, tiny_clip, tmp_path):
    clip = load_clip(tiny_clip)
    calibration = calibrate(flux, samples=8, prompts=EXPERIMENT.calibration_prompts)
    pruned = prune(flux, "dit-pruning", sparsity=0.7, statistics=Statistics(flux, calibration))
    small = replace(EXPERIMENT, recipes=EXPERIMENT.recipes[1:], levels=(Level(0.7),), seeds=(5,))
    dense, row = run(flux, small, tmp_path, clip=clip).rows
    assert cell(row) == ("dit-pruning", "70 %", 5)
    for place, request in enumerate(requests(flux, seed=5)):
        a, one = generate(flux, request)
        b, other = generate(flux, request, pruned=pruned)
        assert dense.scores["ssim"][place] == 1
        assert dense.scores["psnr"][place] is None
        assert row.scores["ssim"][place] == pytest.approx(ssim(a, b), abs=2e-3)
        assert row.scores["psnr"][place] == pytest.approx(psnr(a, b), abs=0.1)
        assert row.scores["latent_mse"][place] == pytest.approx(float((one - other).square().mean()), rel=1e-3)
        assert row.scores["clip"][place] == pytest.approx(float(clip.score([b], [request.prompt])[0]), abs=0.2)
    # The same settings without a CLIP are another experiment, whose other scores agree.
    twin = next(other for other in finished[1].rows if cell(other) == cell(row))
    assert twin.experiment != row.experiment
    assert twin.scores["clip"] == [None] * 3
    assert twin.scores["latent_mse"] == row.scores["latent_mse"]


def test_categories_and_cut_words_invalidate_nothing(flux, finished, tmp_path, monkeypatch):
    """Results from before there were either are taken as they are, and say both from then on."""
    folder, outcome = finished
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    old = [{name: value for name, value in line.items() if name not in ("unread", "crc32")} for line in lines]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    monkeypatch.setattr("dit_prune_viz.experiments.prune_cells.prune", None)  # runs for what is missing
    heard = []
    again = run(flux, replace(EXPERIMENT, categories=("pets", "", "pets")), tmp_path, on_row=heard.append)
    assert again.rows == outcome.rows
    assert [row.unread for row in heard] == [None] * len(CELLS)
    assert [row.unread for row in again.rows] == [{}] * len(CELLS)
    written, before = (json.loads((path / "experiment.json").read_text()) for path in (tmp_path, folder))
    assert written == {**before, "categories": ["pets", "", "pets"]}
    with pytest.raises(UserError, match="a category for every prompt"):
        run(flux, replace(EXPERIMENT, categories=("pets",)), tmp_path)


def test_rows_and_tables_say_which_words_are_not_read(flux, tiny_clip, tmp_path):
    letters = "a b c d e f g h i j k l m n"
    small = replace(EXPERIMENT, prompts=("a cat", f"{letters} o p"), levels=(Level(0.5),), seeds=(0,), steps=1)
    rows = run(flux, replace(small, recipes=small.recipes[:1]), tmp_path, clip=load_clip(tiny_clip)).rows
    told = {"not_drawn": ["", "o p"], "not_scored": ["", "o p"]}
    assert [row.unread for row in rows] == [told, told]
    assert Results(tmp_path / "results.jsonl").rows == list(rows)
    cells = list(csv.DictReader(as_csv(rows).splitlines()))
    assert [(cell["not_drawn"], cell["not_scored"]) for cell in cells] == [("prompt 2: o p", "prompt 2: o p")] * 2
    assert unread_sentences(rows[0]) == [
        "The model does not read 1 prompt to the end.",
        "The CLIP does not read 1 prompt to the end.",
    ]
    alone = run(flux, replace(small, recipes=small.recipes[:1]), tmp_path / "no clip").rows
    assert alone[0].unread == {"not_drawn": ["", "o p"]}


def test_a_run_that_was_stopped_goes_on_where_it_was(flux, finished, tmp_path):
    rows = []

    def stop(done, total, what):
        if len(rows) == 5 and "step 2" in what:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(flux, EXPERIMENT, tmp_path, progress=stop, on_row=rows.append)
    assert [cell(row) for row in rows] == CELLS[:5]
    path = tmp_path / "results.jsonl"
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"experiment": "half a l')
    drawn, seen = [], []
    outcome = run(flux, EXPERIMENT, tmp_path, progress=lambda *step: drawn.append(step), on_row=seen.append)
    assert "half written" in outcome.notice
    assert [cell(row) for row in seen] == CELLS
    assert {total for _, total, _ in drawn} == {5 * 3}
    assert not any("dense" in what for _, _, what in drawn)
    assert path.read_bytes().startswith(before)
    whole = {cell(row): row.scores for row in finished[1].rows}
    assert {cell(row): row.scores for row in Results(path).rows} == whole


def test_nothing_is_drawn_for_what_is_known(flux, finished):
    def refuse(*step):
        raise AssertionError("a finished cell was drawn again")

    folder, outcome = finished
    assert run(flux, EXPERIMENT, folder, progress=refuse).rows == outcome.rows
    twin = NamedRecipe("my magnitude", Recipe("magnitude"))
    renamed = run(flux, replace(EXPERIMENT, recipes=(twin,), seeds=(5,)), folder, progress=refuse)
    assert [cell(row) for row in renamed.rows][1:] == [("my magnitude", level, 5) for level in ("50 %", "70 %")]


BASELINES = replace(EXPERIMENT, recipes=find_recipes("int8,int4,dit-pruning+int8"), seeds=(0,))


@pytest.fixture(scope="module")
def baselines(flux, tmp_path_factory):
    """The rows of rounded models."""
    return run(flux, BASELINES, tmp_path_factory.mktemp("baselines")).rows


def test_rounded_models_are_measured_once_whatever_sparsities_are_asked_for(baselines):
    rows = {(row.recipe, row.level): row for row in baselines}
    assert list(rows) == [
        ("dense", "0 %"),
        ("int8", "0 %"),
        ("int4", "0 %"),
        ("dit-pruning+int8", "50 %"),
        ("dit-pruning+int8", "70 %"),
    ]
    assert (rows["int8", "0 %"].sparsity, rows["int8", "0 %"].damage) == (0, 0)
    fine, coarse = (rows[name, "0 %"].mean("latent_mse") for name in ("int8", "int4"))
    assert 0 < fine < coarse


def test_every_cell_says_its_bytes(flux, baselines, tmp_path):
    """The tiny model's weights are random float32, which nothing narrower holds, but for its norms' weights of one."""
    nbytes = {(row.recipe, row.level): row.nbytes for row in baselines}
    parameters = list(flux.transformer.parameters())
    ones = sum(one.numel() for one in parameters if bool((one == 1).all()))
    total = 4 * sum(one.numel() for one in parameters) - 2 * ones
    assert nbytes["dense", "0 %"] == total
    rest = total - 4 * flux.prunable_parameters
    scales = sum(2 * rows * -(-columns // 64) for rows, columns in (layer.shape for layer in flux.layers))
    assert nbytes["int8", "0 %"] == rest + scales + flux.prunable_parameters
    assert nbytes["int4", "0 %"] == rest + scales + flux.prunable_parameters // 2
    calibration = calibrate(flux, samples=8, prompts=BASELINES.calibration_prompts)
    for level in (0.5, 0.7):
        pruned = prune(flux, "dit-pruning+int8", sparsity=level, statistics=Statistics(flux, calibration))
        files = list((pack(pruned, tmp_path / f"{level}") / "transformer").iterdir())
        written = sum(file.stat().st_size for file in files)
        assert nbytes["dit-pruning+int8", f"{100 * level:g} %"] == pytest.approx(written, rel=0.2)  # of small files


def test_a_float32_model_from_half_the_bytes_is_weighed_as_such(tiny_flux):
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    total = sum(parameter.numel() for parameter in model.transformer.parameters())
    for kind in (torch.bfloat16, torch.float16):
        for parameter in model.transformer.parameters():
            parameter.data = torch.ones_like(parameter) * torch.tensor(1 + torch.finfo(kind).eps)
        assert dense_bytes(model) == 2 * total
    assert dense_bytes(load_model(tiny_flux, device="cpu", dtype="bfloat16")) == 2 * total


def test_rows_of_an_earlier_version_get_their_bytes_without_a_picture(flux, tmp_path):
    """Where pruning takes seconds; what would have to be searched or trained again keeps its row as it is."""
    several = replace(BASELINES, recipes=(*BASELINES.recipes, *find_recipes("mean")), levels=(Level(0.5),))
    whole = run(flux, several, tmp_path).rows
    path = tmp_path / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{name: value for name, value in line.items() if name not in ("nbytes", "crc32")} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    drawn, seen = [], []
    again = run(flux, several, tmp_path, progress=lambda *step: drawn.append(step), on_row=seen.append).rows
    assert not any(": step" in what for *_, what in drawn)
    assert all(done <= total for done, total, _ in drawn)
    assert [row.nbytes for row in seen] == [None] * 5
    assert [row.recipe for row in again if row.nbytes is None] == ["mean"]
    assert [replace(row, nbytes=None) for row in again] == [replace(row, nbytes=None) for row in whole]
    known = {cell(row): row.nbytes for row in whole}
    assert all(row.nbytes == known[cell(row)] for row in again if row.recipe != "mean")
    content = path.read_bytes()
    assert run(flux, several, tmp_path).rows == again
    assert path.read_bytes() == content


def test_a_method_of_another_version_is_measured_again(flux, tmp_path, monkeypatch):
    small = replace(EXPERIMENT, recipes=find_recipes("magnitude,wanda"), levels=(Level(0.5),), seeds=(0,))
    before = run(flux, small, tmp_path).rows
    digests = {named.name: cell_digest(named) for named in NAMED_RECIPES.values()}
    assert len(set(digests.values())) == len(digests)
    monkeypatch.setattr(Wanda, "version", Wanda.version + 1)
    changed = {name for name, digest in digests.items() if cell_digest(NAMED_RECIPES[name]) != digest}
    assert changed == {"wanda", "cag"}  # the recipes that score by |W|·‖X‖
    drawn = []
    after = run(flux, small, tmp_path, progress=lambda *step: drawn.append(step[2])).rows
    assert {what.split(" ")[0] for what in drawn if ": step" in what} == {"wanda"}
    assert [row.scores for row in after] == [row.scores for row in before]
    assert [row.key == old.key for row, old in zip(after, before, strict=True)] == [True, True, False]


def test_other_settings_do_not_meet_in_one_file(flux, tmp_path):
    small = replace(EXPERIMENT, recipes=EXPERIMENT.recipes[:1], levels=(Level(0.5),), seeds=(0,))
    first = run(flux, small, tmp_path).rows
    other = run(flux, replace(small, steps=2), tmp_path).rows
    assert first[1].scores != other[1].scores
    assert len(Results(tmp_path / "results.jsonl").rows) == 4
    assert run(flux, small, tmp_path).rows == first


def test_the_batch_changes_a_picture_by_rounding_only(flux):
    together = draw_batch(flux, requests(flux))
    for picture, request in zip(together, requests(flux), strict=True):
        (alone,) = draw_batch(flux, [request])
        image, latents = generate(flux, request)
        torch.testing.assert_close(alone.latents, latents[0], rtol=0, atol=0)
        assert alone.image.tobytes() == image.tobytes()
        torch.testing.assert_close(picture.latents, alone.latents, rtol=1e-3, atol=1e-4)
        gap = np.abs(np.asarray(picture.image, dtype=int) - np.asarray(alone.image))
        assert gap.max() <= 1


def test_noise_of_a_step_belongs_to_its_picture(tiny_dit):
    model = load_model(tiny_dit, device="cpu")
    pair = draw_batch(model, requests(model, ("7", "golden retriever")))
    (alone,) = draw_batch(model, requests(model, ("golden retriever",)))
    torch.testing.assert_close(pair[1].latents, alone.latents, rtol=1e-3, atol=1e-4)


def test_pictures_of_classes_without_names_have_no_clip_score(tiny_dit, tiny_clip):
    model, clip = load_model(tiny_dit, device="cpu"), load_clip(tiny_clip)
    asked = requests(model, ("7", "golden retriever"))
    pair = draw_batch(model, asked)
    nameless = score(model, pair, pair, asked, clip).scores
    model.pipeline.labels = {**model.pipeline.labels, "cock": 7}
    known = score(model, pair, pair, asked, clip).scores
    assert None not in known["clip"]
    assert nameless["clip"] == [None, known["clip"][1]]
    assert nameless["ssim"] == [1.0, 1.0]


def test_noise_differs_between_prompts_and_seeds():
    assert len({noise_seed(prompt, seed) for prompt in PROMPTS for seed in range(3)}) == 9
    assert noise_seed("", 2**32 - 1) == 2**32 - 1


def test_dense_pictures_are_read_back_exactly_and_damaged_ones_drawn_again(flux, tmp_path):
    store, asked, steps = DenseStore(tmp_path, flux), requests(flux), []
    first = store.pictures(asked, steps.append)
    assert len(steps) == 3
    again = store.pictures(asked, steps.append)
    assert len(steps) == 3
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert a.image.tobytes() == b.image.tobytes()
    victim = sorted(tmp_path.iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    mended = store.pictures(asked, steps.append)
    assert len(steps) == 6
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(first, mended, strict=True))
    store.pictures(requests(flux, steps=2), steps.append)
    assert len(steps) == 8
    assert not list(tmp_path.glob("*.part"))


def test_a_dense_picture_file_cannot_run_code(flux, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    pickle.loads(pickle.dumps(Trap()))
    (tmp_path / "sprung").unlink()  # the trap works
    store, (request,) = DenseStore(tmp_path, flux), requests(flux, PROMPTS[:1])
    store.pictures([request])
    (file,) = tmp_path.glob("*.safetensors")
    torch.save({"picture": Trap(), "latents": torch.zeros(1)}, file)
    store.pictures([request])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipes": ()}, "at least one method"),
        ({"levels": ()}, "at least one sparsity"),
        ({"prompts": ()}, "needs prompts"),
        ({"calibration_prompts": ()}, "needs prompts"),
        ({"calibration_prompts": ("two dogs",)}, "both the evaluation and the calibration"),
        ({"seeds": ()}, "different seeds"),
        ({"seeds": (1, 1)}, "different seeds"),
        ({"seeds": (-1,)}, "The seed"),
        ({"recipes": (NamedRecipe("x", Recipe()), NamedRecipe("x", Recipe("wanda")))}, "name of its own"),
        ({"recipes": (NamedRecipe("dense", Recipe()),)}, "none is called dense"),
        ({"recipes": find_recipes("stw"), "levels": (Level(0.5, "2:4"),)}, "takes a pattern"),
        ({"steps": 0}, "number of steps"),
        ({"samples": 0}, "calibration samples"),
    ],
)
def test_bad_experiments_are_one_sentence(flux, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        run_experiment(flux, replace(EXPERIMENT, **change), tmp_path)


def test_a_batch_that_does_not_fit_says_so(flux, tmp_path):
    def fail(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = flux.transformer.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match="fewer at a time"):
        run(flux, EXPERIMENT, tmp_path)
    handle.remove()


COMMAND = (
    "sweep",
    "--clip",
    "none",
    "--device",
    "cpu",
    "--prompts",
    "3",
    "--steps",
    "2",
    "--seeds",
    "2",
    "--samples",
    "4",
)


def test_the_command_line_runs_prints_and_writes_files(tiny_flux, tmp_path, capsys):
    where = ["--model", str(tiny_flux), "--out", str(tmp_path)]
    more = ["--methods", "magnitude", "--sparsities", "50", "--recipe", "mine: saliency=wanda granularity=layer"]
    assert main([*COMMAND, *where, *more]) == 0
    text = capsys.readouterr().out
    assert "| mine | " in text
    described = json.loads((tmp_path / "experiment.json").read_text())
    assert len(described["prompts"]) == 3
    assert not set(described["prompts"]) & set(described["calibration"]["prompts"])
    assert all((tmp_path / f"results.{kind}").stat().st_size for kind in ("csv", "json", "png", "jsonl"))
    assert main(["table", "--out", str(tmp_path)]) == 0
    assert "| magnitude | " in capsys.readouterr().out
    (tmp_path / "results.csv").unlink()
    assert main(["export", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.csv").read_text().count("\n") == 1 + 6


def test_the_command_line_tells_of_a_prompt_set_and_its_categories(tiny_flux, tmp_path, capsys):
    (tmp_path / "set.tsv").write_text("Prompt\tCategory\na cat\tpets\na dog\tpets\nthe sun\tsky\na cat\tpets\n")
    where = ["--model", str(tiny_flux), "--out", str(tmp_path / "out"), "--prompt-set", str(tmp_path / "set.tsv")]
    assert main([*COMMAND, *where, "--methods", "magnitude", "--sparsities", "50"]) == 0
    heard = capsys.readouterr()
    assert "set.tsv: 4 prompts in 2 categories; 1 duplicate, drawn once; 0 too long.\n" in heard.err
    assert "| Δ SSIM to dense | breaks first | pets | sky |" in heard.out
    assert main(["table", "--out", str(tmp_path / "out")]) == 0
    assert "| magnitude 50 % | " in capsys.readouterr().out
    assert json.loads((tmp_path / "out/results.json").read_text())["experiment"]["categories"].count("pets") == 2


def test_results_of_other_layers_are_not_continued(tiny_flux, tmp_path, capsys):
    where = ["--model", str(tiny_flux), "--out", str(tmp_path), "--methods", "magnitude", "--sparsities", "50"]
    assert main([*COMMAND, *where]) == 0
    usual = json.loads((tmp_path / "experiment.json").read_text())
    rows = len((tmp_path / "results.jsonl").read_text().splitlines())
    assert main([*COMMAND, *where, "--also-prune", "norm_out", "--also-prune", "x_embedder"]) == 0
    more = json.loads((tmp_path / "experiment.json").read_text())
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2 * rows
    assert more["fingerprint"] == usual["fingerprint"]
    assert more["identity"] != usual["identity"]
    report = tmp_path / "report.json"
    command = ["prune", "magnitude", "--model", str(tiny_flux), "--also-prune", "norm_out", "--device", "cpu"]
    assert main([*command, "--samples", "4", "--cache", "off", "--report", str(report)]) == 0
    written = json.loads(report.read_text())
    assert written["also_prune"] == ["norm_out"]
    assert written["layers"][-1]["name"] == "norm_out.linear"
    capsys.readouterr()
    assert main([*command, "--also-prune", "nothing"]) == 2
    assert "choose from time_text_embed, norm_out, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [*COMMAND, "--methods", "nothing"],
        [*COMMAND, "--sparsities", "0.5"],
        [*COMMAND, "--prompts", "100"],
        [*COMMAND, "--preset", "nothing"],
        [*COMMAND, "--prompt-set", "nowhere.txt"],
        ["converge", "--methods", "obs-update,nothing"],
        ["converge", "--recipe", "mine: saliency=obs"],
        ["converge", "--recipe", "mine: saliency=nothing"],
        ["converge", "--sizes", "many"],
        ["table"],
        ["export"],
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(tiny_flux, tmp_path, capsys, arguments):
    model = ["--model", str(tiny_flux)] if arguments[0] in ("sweep", "converge") else []
    where = [] if arguments[0] == "converge" else ["--out", str(tmp_path)]
    assert main([*arguments, *model, *where]) == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error:"))
    assert line.endswith(".")
    assert not (tmp_path / "results.jsonl").exists()


def test_convergence_on_the_command_line(tiny_flux, capsys):
    where = ["--model", str(tiny_flux), "--device", "cpu", "--dtype", "float32"]
    assert main(["converge", *where, "--methods", "wanda,dit-pruning", "--sparsity", "2:4", "--sizes", "2,4,8"]) == 0
    printed = capsys.readouterr().out
    assert [line.split(" at ")[0] for line in printed.splitlines() if " at 2:4" in line] == ["wanda", "dit-pruning"]
    table = [line.split("|")[1:4] for line in printed.splitlines() if line.startswith("| ")]
    assert [int(row[0]) for row in table if row[0].strip().isdecimal()] == [2, 4, 8] * 2
    assert 0 < float(table[2][1].strip(" %")) < 50


def test_two_processes_measure_what_one_does(tiny_flux, tmp_path):
    common = ["--model", str(tiny_flux), "--methods", "dit-pruning", "--sparsities", "60", "--batch", "1"]
    assert main([*COMMAND, *common, "--out", str(tmp_path / "one")]) == 0
    # What `accelerate launch` does for two GPUs; for two processes on a CPU it would ask for MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "ACCELERATE_USE_CPU": "true"}
    command = [*launch, "-m", "dit_prune_viz.experiments", *COMMAND, *common, "--out", str(tmp_path / "two")]
    ended = subprocess.run(command, check=True, env=environment, timeout=240, capture_output=True, text=True)
    assert "2 processes share the work" in ended.stderr
    alone, together = (Results(tmp_path / name / "results.jsonl").rows for name in ("one", "two"))
    assert [cell(row) for row in together] == [cell(row) for row in alone]
    for a, b in zip(alone, together, strict=True):
        assert a.key == b.key
        assert b.scores["ssim"] == pytest.approx(a.scores["ssim"], abs=1e-6)
        assert b.scores["latent_mse"] == pytest.approx(a.scores["latent_mse"], rel=1e-6)
