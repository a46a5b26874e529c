"""What the Take away page writes: every way from one session, named safely, with what other pages have found."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from dit_prune_viz.app.session import packed, takeaway
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.drawn_model import of_session
from dit_prune_viz.app.session.layer_subject import subject
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_io import open_recipe
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.takeaway import Found, check_name, suggested_name, take
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.ways import WAYS


@pytest.fixture(scope="module")
def session(tiny_flux, tiny_clip):
    ready = Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux))
    ready = ready.calibrate(16, 0)
    layer = ready.model.layers[0].name
    return set_sparsity(ready.cluster(layer, "row", "kmeans", 3), layer, 1, 0.9)


def weights(pipeline, session) -> list[torch.Tensor]:
    return [pipeline.transformer.get_submodule(layer.name).weight for layer in session.model.layers]


def pruned_weights(session) -> list[torch.Tensor]:
    return [
        torch.where(session.pruned.masks[one.name], session.model.weight(one.name), 0.0) for one in session.model.layers
    ]


def test_every_way_is_written_and_holds_the_plan(session, tmp_path):
    runs = Runs()
    runs.add(session, of_session(session), compare(session, "a cat", 0, 2))
    layer = session.model.layers[0].name
    chosen = Selection(subject(session, layer), np.array([1, 4], np.int32))
    found = Found(runs.runs, (), chosen)
    taken = {way: take(session, way, "mine", folder=tmp_path, found=found) for way in WAYS}
    assert taken["recipe"].path == tmp_path / "mine.json"
    assert taken["packed"].path == tmp_path / "mine-packed"
    wanted = pruned_weights(session)
    for pipeline in (
        DiffusionPipeline.from_pretrained(taken["diffusers"].path, torch_dtype=torch.float32),
        load_packed(taken["packed"].path),
    ):
        assert all(map(torch.equal, weights(pipeline, session), wanted))
    reopened, notes = open_recipe(session, taken["recipe"].path.read_text(encoding="utf-8"))
    assert notes == ()
    assert all(map(torch.equal, pruned_weights(reopened), wanted))
    page = taken["report"].path.read_text(encoding="utf-8")
    assert "a cat" in page
    numbers = json.loads((taken["numbers"].path / "selection.json").read_text(encoding="utf-8"))
    assert (numbers["layer"], numbers["unit"], numbers["units"]) == (layer, "row", [1, 4])
    for way, one in taken.items():
        assert one.download.is_file()
        if not WAYS[way].suffix:
            with zipfile.ZipFile(one.download) as archive:
                files = {path.relative_to(tmp_path).as_posix() for path in one.path.rglob("*") if path.is_file()}
                assert set(archive.namelist()) == files
                assert archive.testzip() is None


def test_a_report_draws_its_own_pictures_where_there_are_none_of_this_plan(session, tmp_path):
    runs = Runs()
    other = session.prune(session.recipe.at(0.7))
    runs.add(other, of_session(other), compare(other, "another plan", 0, 2))
    path = take(session, "report", "own", folder=tmp_path, found=Found(runs.runs)).path
    page = path.read_text(encoding="utf-8")
    assert "another plan" not in page
    assert session.model.defaults.prompts[0] in page


def test_a_selection_of_another_layer_or_model_stays_behind(session, tmp_path):
    gone = Selection("99/transformer_blocks.0/row", np.array([1], np.int32))
    path = take(session, "numbers", "gone", folder=tmp_path, found=Found(selection=gone)).path
    assert not (path / "selection.json").exists()


@pytest.mark.parametrize(
    "name", ["", " ", "../up", "a/b", "a\\b", ".hidden", "-x", "a" * 81, "ü", None, 3, "a\0b", "CON:"]
)
def test_names_that_lead_elsewhere_are_refused(name, session, tmp_path):
    with pytest.raises(UserError, match="A name has at most 80"):
        take(session, "recipe", name, folder=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_suggested_names_are_names(session):
    assert check_name(suggested_name(session)) == suggested_name(session)
    assert suggested_name(session).endswith(f"-{100 * session.report.achieved:.0f}")


def test_what_is_there_stays_unless_asked_and_a_cancelled_way_leaves_nothing(session, tmp_path):
    take(session, "recipe", "it", folder=tmp_path)
    before = (tmp_path / "it.json").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        take(session, "recipe", "it", folder=tmp_path)
    take(session, "recipe", "it", folder=tmp_path, overwrite=True)
    assert (tmp_path / "it.json").read_bytes() == before

    def stop(done, total, what):
        raise Cancelled

    for way in ("packed", "diffusers", "single-file"):
        with pytest.raises(Cancelled):
            take(session, way, "stopped", folder=tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["it.json"]


def test_nothing_is_taken_without_a_plan(tiny_flux, tiny_clip, tmp_path):
    empty = Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32"))
    with pytest.raises(UserError, match="No model is loaded"):
        take(empty, "packed", "it", folder=tmp_path)
    with pytest.raises(UserError, match=r"no way .* to take a model away"):
        take(empty, "zip", "it", folder=tmp_path)
    assert takeaway.sizes_of(empty) == {}


def test_the_packed_size_is_estimated_and_then_exact(session, tmp_path):
    fresh = session.prune(session.recipe.at(0.6))
    packed.prepare(fresh.model)
    first = packed.known(fresh)
    assert not first.exact
    assert packed.measure(fresh)
    then = packed.known(fresh)
    folder = take(fresh, "packed", "it", folder=tmp_path).path / "transformer"
    assert then.exact
    assert then.nbytes == pytest.approx(sum(file.stat().st_size for file in folder.iterdir()), abs=2000)
    assert first.nbytes == pytest.approx(then.nbytes, rel=0.03)
    parameters = sum(one.numel() for one in fresh.model.transformer.parameters())
    assert then.dense == pytest.approx(4 * parameters, rel=1e-3)  # float32; zero biases take less
