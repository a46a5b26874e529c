"""Frames and input pictures on their way from the page to what is drawn, and back."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image
from tiny_families.drive import save
from tiny_families.edits import EDITS
from tiny_families.videos import VIDEOS

from dit_prune_viz.app.pages.compare import input_picture
from dit_prune_viz.app.pages.compare import view as compare_view
from dit_prune_viz.app.pages.compare.page import suggestions
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.contact_sheet import contact_sheet, places
from dit_prune_viz.app.session.drawing_inputs import taken
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import runs_strip
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.experiment import Experiment, describe
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.generation.frames import clip_scores
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.pipelines.input_picture import read_picture
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import find_recipes


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 30), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    return load_model(
        save("flux-control", EDITS["flux-control"], tmp_path_factory.mktemp("control")), device="cpu", dtype="float32"
    )


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return load_model(save("wan2.1", VIDEOS["wan2.1"], tmp_path_factory.mktemp("wan")), device="cpu", dtype="float32")


def pruned(store, model) -> Session:
    return Session(store, model=model).calibrate(4)


def test_the_fields_are_shown_for_models_that_take_them(store, flux, control, wan):
    shown = {
        name: [update.visible for update in suggestions(Session(store, model=model), Runs())[3:]]
        for name, model in {"flux": flux, "control": control, "wan": wan, "none": None}.items()
    }
    assert shown == {
        "flux": [False, False], "control": [False, True], "wan": [True, False], "none": [False, False]
    }  # fmt: skip


def test_hidden_fields_decide_nothing(flux, control, wan):
    assert taken(flux, 5, b"x") == (1, None)
    assert taken(control, 5, b"x") == (1, b"x")
    assert taken(wan, 5, b"x") == (5, None)
    assert taken(wan, None, None) == (1, None)


def test_a_comparison_starts_from_the_picture_that_is_given(store, control):
    session = pruned(store, control)
    red = compare(session, "a cat", 0, 2, picture=png("red"))
    bundled = compare(session, "a cat", 0, 2)
    assert red.left.images[0].tobytes() != bundled.left.images[0].tobytes()
    assert compare(session, "a cat", 0, 2, picture=png("red")).left is red.left
    runs = Runs()
    runs.add(session, drawn_model.of_session(session), red)
    assert "own picture" in runs_strip.show(runs)
    assert runs.shown.comparison.requests[0].picture == png("red")
    with pytest.raises(UserError, match="cannot be read"):
        compare(session, "a cat", 0, 2, picture=b"GIF")


def test_a_clip_is_compared_as_strips_below_each_other(store, wan):
    session = pruned(store, wan)
    done = compare(session, ["a cat", "a red bus"], 0, 2, frames=5)
    assert {image.size for image in done.left.images + done.right.images} == {(320, 64)}
    sheet = contact_sheet(done.left.images)
    assert sheet.size == (320, 2 * 64 + 2)
    assert places(2, wide=True) == ("1.", "2.")
    frames = [done.left.images[0].crop((64 * place, 0, 64 * place + 64, 64)) for place in range(5)]
    each = store.clip().score(frames, ["a cat"] * 5)
    assert done.left.clips[0] == pytest.approx(each.mean(), abs=1e-4)
    words = compare_view.score_table(done)
    assert "mean over its frames" in words
    assert "mean over its frames" not in compare_view.score_table(compare(session, "a cat", 0, 2))
    first, *_ = compare_view.finished(done)
    assert "wide" in first.elem_classes
    runs = Runs()
    runs.add(session, drawn_model.of_session(session), done)
    assert "5 frames" in runs_strip.show(runs)


def test_single_pictures_are_scored_as_ever(store, flux):
    request = check_request(flux, Request("a cat", 0, 2))
    images = [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 128, 3), np.uint8)) for seed in (0, 1)]
    clip = store.clip()
    assert (clip_scores(clip, flux, images, [request] * 2) == clip.score(images, ["a cat"] * 2)).all()


@pytest.fixture
def uploads():
    folder = Path(get_upload_folder()) / "test-drawing-inputs"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_bad_upload_is_one_sentence_and_a_good_one_is_shown(uploads, tmp_path):
    good, bad, elsewhere = uploads / "good.png", uploads / "bad.png", tmp_path / "other.png"
    for file in (good, elsewhere):
        file.write_bytes(png("red"))
    bad.write_bytes(png("red")[:40])
    own, shown, back = input_picture.upload(str(good))
    assert (own, back.visible) == (png("red"), True)
    assert shown.label == "Starts from: yours"
    for file in (bad, elsewhere):
        with pytest.raises(gr.Error, match="PNG, JPEG or WebP file"):
            input_picture.upload(str(file))
    assert input_picture.show(None)[0] is None


def test_a_picture_file_that_cannot_be_had_is_named(tmp_path):
    for name in ("nothing.png", "."):
        with pytest.raises(UserError, match="cannot be read"):
            read_picture(tmp_path / name)


def test_an_experiment_names_frames_and_picture_only_where_they_were_chosen(control, flux):
    prompts = {"prompts": ("a cat",), "calibration_prompts": ("a red bus",)}
    plain = Experiment(find_recipes("magnitude"), (Level(0.5),), **prompts)
    assert not {"frames", "picture"} & describe(plain, flux, None)["drawing"].keys()
    own = Experiment(find_recipes("magnitude"), (Level(0.5),), **prompts, picture=png("red"))
    described = describe(own, control, None)["drawing"]
    assert described["picture"] == hashlib.sha256(png("red")).hexdigest()
