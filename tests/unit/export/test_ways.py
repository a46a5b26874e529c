"""All ways to take a model away by one function, and what each weighs."""

from __future__ import annotations

import json
import sys

import pytest
from quick_prune import quickly_pruned
from readme import DOCS, README, python_block

import dit_prune_viz as dpv
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export.ways import WAYS, export, sizes
from dit_prune_viz.pipelines.model import load_model


@pytest.fixture(scope="module")
def pruned(flux):
    return quickly_pruned(flux)


def target(folder, way):
    return folder / f"it{WAYS[way].suffix}"


def size(path):
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_whole_or_not_at_all(pruned, tmp_path, way):
    path = target(tmp_path, way)
    assert export(pruned, path, way) == path
    assert path.is_file() == bool(WAYS[way].suffix)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="exists already; choose another name, or ask for it to be overwritten"):
        export(pruned, path, way)
    export(pruned, path, way, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="Not a directory"):
        export(pruned, target(tmp_path / "file", way), way)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_replaces_the_source(flux, tmp_path, way, tiny_flux):
    model = load_model(dpv.export(quickly_pruned(flux), tmp_path / "source"), device="cpu")
    source = tmp_path / f"source{WAYS[way].suffix}"
    if WAYS[way].suffix:
        source = tmp_path / "source" / "model_index.json"
        path = source.rename(source.with_suffix(WAYS[way].suffix))
    else:
        path = source
    with pytest.raises(UserError, match="holds files of the model that was loaded; choose another place"):
        export(quickly_pruned(model), path, way, overwrite=True)


def test_sizes_are_known_before_anything_is_written(pruned, tmp_path):
    found = sizes(pruned)
    assert list(found) == [way for way in WAYS if way != "report"]
    for way in ("single-file", "recipe", "numbers"):
        assert size(export(pruned, target(tmp_path, way), way)) == found[way]
    assert size(export(pruned, tmp_path / "folder", "diffusers")) == pytest.approx(found["diffusers"], abs=20_000)
    assert size(export(pruned, tmp_path / "packed", "packed")) < 1.1 * found["packed"]


def test_a_family_without_single_files_has_no_size_of_one(tiny_dit):
    assert "single-file" not in sizes(quickly_pruned(load_model(tiny_dit, device="cpu")))


@pytest.mark.parametrize("way", ["zip", "", None, "Diffusers"])
def test_an_unknown_way(pruned, tmp_path, way):
    with pytest.raises(UserError, match="to take a model away; choose among diffusers, packed, single-file, recipe, "):
        export(pruned, tmp_path / "it", way)


def test_the_recipe_leaves_as_json(pruned, tmp_path):
    path = export(pruned, tmp_path / "mine.json", "recipe")
    assert json.loads(path.read_text())["sparsity"] == pruned.recipe.sparsity


def test_masks_that_wait_are_made_first_and_can_be_cancelled(pruned, tmp_path, monkeypatch):
    told = []

    def stop(done, total, what):
        told.append(what)
        raise Cancelled

    with pytest.raises(Cancelled):
        export(pruned, tmp_path / "it", progress=stop)
    assert len(told) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_verb_has_the_name_of_its_package():
    assert dpv.export is sys.modules["dit_prune_viz.export"]
    assert dpv.__getattr__("export") is dpv.export  # what the first use of the name asks
    assert dpv.export.pack.pack is dpv.pack
    with pytest.raises(UserError, match="There is no way 'zip' to take a model away"):
        dpv.export(None, "x", "zip")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
@pytest.mark.parametrize("way", ["diffusers", "packed", "single-file"])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(pruned, tmp_path, way):
    """A limit on the size of files stands in for it: the system itself refuses to write on."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(.*File too large.*\); free some space or choose"):
            export(pruned, target(tmp_path / "a", way), way)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("word", "page"), [("emoji-70-folder", README), ("flux-60", DOCS / "taking-away.md")])
def test_the_pages_examples_run(pruned, tmp_path, monkeypatch, word, page):
    monkeypatch.chdir(tmp_path)
    exec(python_block(word, page), {"dpv": dpv, "pruned": pruned})
    assert len(list(tmp_path.iterdir())) == python_block(word, page).count("dpv.export(")
    assert list(tmp_path.rglob("model_index.json"))
