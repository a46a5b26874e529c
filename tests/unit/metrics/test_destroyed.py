"""Pictures that are none any more, and how everything that shows a score says so."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dit_prune_viz.app.api import describe_scores
from dit_prune_viz.app.pages.compare.view import score_table
from dit_prune_viz.app.session.comparison_result import Side, measure
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.export import as_csv
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.results import Results, destroyed_sentences
from dit_prune_viz.experiments.run import run
from dit_prune_viz.experiments.table import markdown, tabulate
from dit_prune_viz.experiments.xy_grid import DrawnCell
from dit_prune_viz.experiments.xy_grid_file import scores_in_words
from dit_prune_viz.experiments.xy_plan import Cell
from dit_prune_viz.export.report_parts.pairs import make_pair
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.generation.stream import stream
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.destroyed import BLACK, CONSTANT, NOT_FINITE, destroyed
from dit_prune_viz.pruning.named_recipes import NamedRecipe, find_recipes
from dit_prune_viz.pruning.recipe import Recipe

REQUEST = Request("a cat", seed=1, steps=2)


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (16, 16), colour)


def textured() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 255), st.integers(0, 15))
@settings(max_examples=60)
def test_one_colour_is_told_and_a_spot_of_another_is_not(colour, other, place):
    image = plain(colour)
    assert destroyed(image) == (BLACK if max(colour) <= 2 else CONSTANT)
    image.putpixel((place, place), (other, other, other))
    apart = max(abs(other - value) for value in colour)
    assert (destroyed(image) == "") == (apart > 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_latents_that_are_not_finite_are_told_whatever_the_picture(value):
    latents = torch.zeros(4, 8, 8)
    assert destroyed(textured(), latents) == ""
    latents[1, 2, 3] = value
    assert destroyed(textured(), latents) == NOT_FINITE


def broken_layers(model) -> dict[str, PrunedLayer]:
    """One layer whose weights are NaN."""
    layer = model.layers[0]
    shape = tuple(layer.shape)
    keep = torch.ones(shape, dtype=torch.bool)
    return {layer.name: PrunedLayer(pack(keep), torch.full((keep.sum(),), math.nan))}


def test_a_model_of_nan_draws_black_without_a_warning(flux):
    request = check_request(flux, REQUEST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (picture,) = draw_batch(flux, [request], layers=broken_layers(flux))
        *steps, last = stream(flux, replace(REQUEST, steps=3), layers=broken_layers(flux), preview_every=1)
    assert destroyed(picture.image, picture.latents) == NOT_FINITE
    assert np.asarray(picture.image).max() == 0
    assert [np.asarray(step.image).max() for step in steps] == [0, 0]
    assert not bool(last.latents.isfinite().all())
    (dense,) = draw_batch(flux, [request])  # nothing of it stays
    assert bool(dense.latents.isfinite().all())


def sides(*images: Image.Image) -> tuple[Side, Side, tuple[Request, ...]]:
    requests = tuple(replace(REQUEST, prompt=f"prompt {n}", width=16, height=16) for n in range(len(images)))
    dense = Side("dense", (textured(),) * len(images), (80.0,) * len(images), (), 1.0)
    return dense, Side("pruned <b>", images, (77.0,) * len(images), (), 1.0), requests


def compared(*images: Image.Image):
    dense, right, requests = sides(*images)
    return measure(dense, right, requests, "a CLIP", 1.0)


def test_the_compare_page_and_the_api_say_what_is_left():
    done = compared(plain((0, 0, 0)))
    assert done.told == "destroyed: black picture"
    assert math.isnan(done.delta)
    table = score_table(done)
    assert "destroyed: black picture" in table
    assert "77.0" not in table
    assert f"{done.ssim:.3f}" in table
    told = describe_scores(done)
    assert told["destroyed"] == {"dense": "", "pruned": "black picture"}
    assert told["clip"]["pruned"] is None
    assert told["clip"]["dense"] == 80
    json.dumps(told, allow_nan=False)
    assert "destroyed" not in describe_scores(compared(textured()))


def test_one_picture_of_several_is_named_and_the_mean_stays():
    done = compared(textured(), plain((9, 90, 9)))
    assert done.right.destroyed == ("", CONSTANT)
    assert done.delta == pytest.approx(-3)
    assert score_table(done).count("destroyed: constant picture") == 1


def test_grid_and_report_name_it():
    cell = Cell(0, 0, None, None, REQUEST)
    assert scores_in_words(DrawnCell(cell, plain((0, 0, 0)), None, 80.0, 0.25, BLACK)) == (
        "destroyed: black picture",
        "SSIM 0.250",
    )
    pair = make_pair(textured(), plain((3, 3, 30)), REQUEST, clip=(80.0, 70.0), clip_name="x")
    assert (pair.destroyed, pair.clip) == (CONSTANT, None)


def test_a_sweep_says_which_cells_are_destroyed(flux, tiny_clip, tmp_path, monkeypatch):
    """The same sweep with a model whose pruned pictures are NaN."""
    from dit_prune_viz.experiments import draw_cells

    whole = draw_cells.draw_batch

    def ruined(model, requests, *, layers=None, on_step=None):
        return whole(model, requests, layers=broken_layers(model) if layers else None, on_step=on_step)

    experiment = Experiment(
        recipes=find_recipes("magnitude"),
        levels=(Level(0.5),),
        prompts=("a cat", "a hat"),
        calibration_prompts=("a dog",),
        seeds=(0,),
        steps=2,
        samples=2,
    )
    monkeypatch.setattr(draw_cells, "draw_batch", ruined)
    dense, row = run(flux, experiment, tmp_path, clip=load_clip(tiny_clip)).rows
    assert dense.destroyed == []
    assert row.destroyed == [NOT_FINITE] * 2
    assert row.mean("clip") is None
    assert row.mean("ssim") is not None
    assert row.scores["latent_mse"] == [None, None]
    assert Results(tmp_path / "results.jsonl").rows == [dense, row]
    assert "| magnitude | destroyed |" in markdown(tabulate([dense, row]), "clip")
    assert as_csv([dense, row]).splitlines()[2].endswith(",prompt 1: not finite (NaN); prompt 2: not finite (NaN)")
    assert destroyed_sentences([dense, row]) == ["magnitude 50 %: 2 of 2 pictures destroyed (not finite (NaN))."]


def test_a_plan_without_any_weight_left_is_drawn_and_scored(flux, tiny_clip, tmp_path):
    experiment = Experiment(
        recipes=(NamedRecipe("all", Recipe("magnitude")),),
        levels=(Level(1.0),),
        prompts=("a cat",),
        calibration_prompts=("a dog",),
        seeds=(0,),
        steps=2,
        samples=2,
    )
    dense, row = run(flux, experiment, tmp_path, clip=load_clip(tiny_clip)).rows
    assert row.sparsity == 1
    assert (row.mean("clip") is None) == all(row.destroyed or [""])
    assert dense.destroyed == []
