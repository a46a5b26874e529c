"""Which models may be opened where an app is open to others: below one folder, listed, or what it was started with."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.allowed_models import AllowedModels
from dit_prune_viz.pipelines.load_settings import LoadSettings, Lora, changed
from dit_prune_viz.pipelines.source import find_source, local_path

STARTED = LoadSettings("org/started", base="org/lender", loras=(Lora("style.safetensors", 0.5),))


@pytest.fixture
def root(tmp_path, tiny_flux) -> Path:
    """models/ with a pipeline, and one beside it that nobody may open."""
    root = tmp_path / "models"
    shutil.copytree(tiny_flux, root / "flux")
    shutil.copytree(tiny_flux, tmp_path / "private")
    return root


@pytest.fixture
def allowed(root) -> AllowedModels:
    return AllowedModels.of(root, ["org/*", "other/exact"])


def refused(allowed: AllowedModels, settings: LoadSettings, started: LoadSettings = STARTED) -> str:
    with pytest.raises(UserError) as caught:
        allowed.checked(settings, started)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_folders_below_the_root_and_listed_hub_ids_are_opened(allowed, root):
    for text in (str(root / "flux"), "flux", " flux ", f"{root}/../models/flux", "./flux"):
        assert allowed.checked(LoadSettings(text), STARTED).model == str(root / "flux")
    for text in ("org/x", "org/x@main", "org/x@main/sub", "hf://org/x", "other/exact"):
        assert allowed.checked(LoadSettings(text), STARTED).model == text
    weights = next((root / "flux").rglob("*.safetensors"))
    assert allowed.place(str(weights)) == str(weights)


def test_what_the_app_was_started_with_is_opened_as_it_was(allowed):
    assert allowed.checked(STARTED, STARTED) is STARTED
    other = LoadSettings("org/started", base="nobody/lends")
    assert "may not open 'nobody/lends'" in refused(allowed, other)
    nothing = AllowedModels()
    assert nothing.checked(STARTED, STARTED) is STARTED
    assert refused(nothing, LoadSettings("org/x")).endswith("choose the model that it was started with.")


@pytest.mark.parametrize(
    "text",
    [
        "/etc", "/", "..", "../private", "flux/../../private", "~", "~root", "~/../etc", "", " ", ".", "\0", "x" * 4000,
        "evil/x", "org/../evil/x", "org/x/../../y", "org", "orgy/x", "xorg/x", "https://hf.co/org/x", "file:///etc",
        "org/x@refs/pr/1", "other/exactly", "\\\\server\\share", "C:\\models",
    ],
)  # fmt: skip
def test_everything_else_is_refused_alike_whether_it_is_there_or_not(allowed, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "models")
    for settings in (
        LoadSettings(text),
        LoadSettings("flux", base=text),
        LoadSettings("flux", loras=(Lora(text),)),
    ):
        assert refused(allowed, settings).startswith(f"This app may not open {text!r:.39}")


def test_there_is_no_telling_which_folders_exist(allowed, tmp_path):
    here, nowhere = refused(allowed, LoadSettings(f"{tmp_path}/private")), refused(allowed, LoadSettings("/no/private"))
    assert here.partition("; ")[2] == nowhere.partition("; ")[2]


def test_links_out_of_the_root_are_refused_wherever_they_lie(allowed, root, tmp_path):
    (root / "linked").symlink_to(tmp_path / "private")
    assert "may not open" in refused(allowed, LoadSettings("linked"))
    (root / "inside").symlink_to(root / "flux")
    assert allowed.checked(LoadSettings("inside"), STARTED).model == str(root / "flux")
    weights = next((root / "flux").rglob("*.safetensors"))
    outside = tmp_path / "private" / weights.relative_to(root / "flux")
    weights.unlink()
    weights.symlink_to(outside)
    assert "has a link that leads out" in refused(allowed, LoadSettings("flux"))
    shutil.rmtree(root / "flux" / "vae")
    (root / "flux" / "vae").symlink_to(tmp_path / "private" / "vae")
    weights.unlink()
    assert "has a link that leads out" in refused(allowed, LoadSettings("flux"))
    (root / "circle").symlink_to(root / "circle")
    assert "may not open" in refused(allowed, LoadSettings("circle"))


@pytest.mark.parametrize("subfolder", ["..", "../private", "/etc", "a/../../b", "~", "..\\x"])
def test_a_subfolder_stays_inside(allowed, subfolder):
    assert "leads out of the model" in refused(allowed, LoadSettings("flux", subfolder=subfolder))


def test_a_folder_that_looks_like_a_listed_hub_id_is_no_way_in(allowed, tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "x").symlink_to("/etc")
    monkeypatch.chdir(tmp_path)
    assert "may not open 'org/x'" in refused(allowed, LoadSettings("org/x"))


def test_parts_that_a_models_own_files_name_are_checked_too(allowed, root, tmp_path):
    """A modular pipeline says where its parts come from."""
    folder = root / "modular"
    folder.mkdir()
    entry = ["diffusers", "FluxTransformer2DModel", {"pretrained_model_name_or_path": str(tmp_path / "private")}]
    index = {"_class_name": "FluxModularPipeline", "transformer": entry}
    (folder / "modular_model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="may not open"):
        find_source(allowed.checked(LoadSettings("modular"), STARTED))


def test_the_apps_store_keeps_to_it(root, tiny_clip, tiny_flux, tmp_path):
    """Through the verb that the page and the API share; a token's file is no option at all."""
    load = LoadSettings(str(tiny_flux), "cpu", "float32")
    store = ModelStore(clip=tiny_clip, load=load, allowed=AllowedModels.of(root, []))
    session = Session(store).load_model(str(tiny_flux))
    assert session.load_model("flux").model.name == "flux"
    for options in ({}, {"base": str(tmp_path / "private")}, {"lora": [str(tmp_path / "private")]}):
        with pytest.raises(UserError, match="may not open"):
            session.load_model(str(tmp_path / "private") if not options else "flux", options=options)
    with pytest.raises(UserError, match="no option 'token_file'"):
        changed(load, {"token_file": "/etc/passwd"})


def test_without_a_rule_everything_is_opened(tiny_clip, tiny_flux):
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    assert Session(store).load_model(str(tiny_flux)).model.name == "tiny-flux"


def test_an_impossible_name_is_no_path():
    assert [local_path(text) for text in ("~\0", "\0", "~" + "x" * 5000, "x" * 5000)] == [None] * 4


@pytest.mark.parametrize("pattern", ["", "org", "../x/y", "a/b/c", "org/<b>", "*"])
def test_a_pattern_is_that_of_a_hub_id(pattern):
    with pytest.raises(UserError, match="is no hub id"):
        AllowedModels.of(None, [pattern])


def test_the_root_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "no", tmp_path / "file"):
        with pytest.raises(UserError, match="is no folder"):
            AllowedModels.of(bad, [])


@given(st.text(alphabet="./~\\\0 abflux@:", max_size=30))
def test_nothing_outside_is_ever_named(tmp_path_factory, text):
    root = tmp_path_factory.getbasetemp() / "root-of-models"
    (root / "flux").mkdir(parents=True, exist_ok=True)
    try:
        found = AllowedModels(root.resolve(), ()).place(text)
    except UserError:
        return
    assert os.path.realpath(found).startswith(f"{root.resolve()}/")
