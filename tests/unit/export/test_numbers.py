"""Layers, clusters and selections as CSV and JSON."""

from __future__ import annotations

import base64
import csv
import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from quick_prune import quickly_pruned

from dit_prune_viz.clustering.clusters import Clusters, Tag
from dit_prune_viz.errors import UserError
from dit_prune_viz.export import picture_grid as picture_grid_module
from dit_prune_viz.export.numbers import (
    clusters_csv,
    clusters_json,
    layers_csv,
    layers_json,
    membership,
    units_csv,
    units_json,
    write_numbers,
)
from dit_prune_viz.export.picture_grid import picture_grid
from dit_prune_viz.masks.layer_plan import ClusterPlan
from dit_prune_viz.pruning.recipe import Recipe

LABELS = np.array([0, 1, 1, 0, 2])


@pytest.fixture(scope="module")
def pruned(flux):
    return quickly_pruned(flux, Recipe())


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_layers_are_those_of_the_masks(flux, pruned):
    found = rows(layers_csv(pruned))
    assert [row["name"] for row in found] == [layer.name for layer in flux.layers]
    for row in found:
        mask = pruned.layers[row["name"]].mask
        assert (int(row["d_out"]), int(row["d_in"])) == mask.shape
        assert int(row["removed"]) == int((~mask.unpack()).sum())
        assert float(row["sparsity"]) == int(row["removed"]) / int(row["weights"])
        assert row["granularity"] == pruned.plan.layer(row["name"]).granularity
    content = json.loads(layers_json(pruned))
    assert content["removed"] == sum(int(row["removed"]) for row in found)
    assert content["remaining"] == flux.parameters - content["removed"]
    assert [str(row["g_out"]) for row in content["layers"]] == [row["g_out"] for row in found]


def test_numbers_that_are_none_are_null(pruned):
    first, *others = pruned.report.layers
    odd = replace(pruned, report=replace(pruned.report, layers=(replace(first, g_out=float("inf")), *others)))
    assert json.loads(layers_json(odd))["layers"][0]["g_out"] is None
    assert rows(layers_csv(odd))[0]["g_out"] == ""


def test_membership_of_rows():
    clusters = Clusters("row", "lasso", LABELS, 3, tags=(Tag("loud", 0), Tag("a, b", 1, locked=True), Tag("rest", 2)))
    found = membership("q", (5, 4), clusters)
    assert (found["layer"], found["shape"], found["unit"]) == ("q", [5, 4], "row")
    assert [row["units"] for row in found["clusters"]] == [[0, 3], [1, 2], [4]]
    assert [(row["name"], row["locked"], row["count"]) for row in found["clusters"]] == [
        ("loud", False, 2),
        ("a, b", True, 2),
        ("rest", False, 1),
    ]
    lines = rows(clusters_csv({"q": ((5, 4), clusters)}))
    assert [(line["index"], line["cluster"], line["name"]) for line in lines][:3] == [
        ("0", "0", "loud"),
        ("1", "1", "a, b"),
        ("2", "1", "a, b"),
    ]
    assert json.loads(clusters_json({"q": ((5, 4), clusters)})) == [found]


def test_membership_of_single_weights_is_packed():
    labels = np.random.default_rng(0).integers(0, 4, 3000)
    found = membership("q", (50, 60), ClusterPlan("weight", labels, (0.5, None, None, 0.1)))
    assert [row["units"] for row in found["clusters"]] == [None] * 4
    assert [row["sparsity"] for row in found["clusters"]] == [0.5, None, None, 0.1]
    unpacked = np.frombuffer(zlib.decompress(base64.b64decode(found["labels"])), "<i4")
    assert np.array_equal(unpacked, labels)
    assert len(rows(clusters_csv({"q": ((50, 60), ClusterPlan("weight", labels, (None,) * 4))}))) == 0


def test_clusters_of_another_shape():
    with pytest.raises(UserError, match="belong to a layer of another shape; cluster again"):
        membership("q", (6, 4), Clusters("row", "kmeans", LABELS, 3))


def test_a_selection():
    assert rows(units_csv("q", (3, 4), "weight", [0, 5, 11])) == [
        {"layer": "q", "row": "0", "column": "0"},
        {"layer": "q", "row": "1", "column": "1"},
        {"layer": "q", "row": "2", "column": "3"},
    ]
    assert rows(units_csv("q", (3, 4), "column", [3])) == [{"layer": "q", "column": "3"}]
    assert json.loads(units_json("q", (3, 4), "row", []))["units"] == []
    assert json.loads(units_json("q", (3, 4), "weight", [5]))["units"] == [[1, 1]]
    with pytest.raises(UserError, match="belongs to another layer"):
        units_csv("q", (3, 4), "row", [3])
    with pytest.raises(UserError, match="There is no unit 'head'"):
        units_json("q", (3, 4), "head", [1])


def test_a_folder_of_numbers(flux, pruned, tmp_path):
    folder = write_numbers(pruned, tmp_path / "numbers")
    assert sorted(path.name for path in folder.iterdir()) == ["layers.csv", "layers.json"]
    layer = flux.layers[0]
    labels = np.arange(layer.shape[0]) % 3
    plan = pruned.plan.with_clusters(layer.name, Clusters("row", "kmeans", labels, 3))
    write_numbers(replace(pruned, plan=plan), folder, overwrite=True)
    (found,) = json.loads((folder / "clusters.json").read_text())
    assert found["clusters"][2]["units"] == list(range(2, layer.shape[0], 3))
    assert len(rows((folder / "clusters.csv").read_text())) == layer.shape[0]


def test_a_grid_of_pictures():
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGBA", (40, 30), "blue")
    prompts = ["a cat", "a very long prompt about dogs that goes on and on " * 9]
    grid = picture_grid([[red, None, blue], [blue, red, red]], prompts, ["dense", "50 %", "70 %"])
    assert grid.width == 160 + 3 * 48
    colours = [
        grid.getpixel((160 + column * 48 + 20, grid.height - 2 * 38 + row * 38 + 15))
        for row in (0, 1)
        for column in (0, 1, 2)
    ]
    r, b, w = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    assert colours == [r, w, b, b, r, r]
    with pytest.raises(UserError, match="A grid needs a picture or a gap"):
        picture_grid([[red]], ["a", "b"], ["c"])
    with pytest.raises(UserError, match="A grid needs"):
        picture_grid([], [], [])


def test_a_grid_with_scores_and_a_footer(monkeypatch):
    """Nothing is written over a picture; small ones are enlarged and large ones made to fit, which the footer says."""
    red, blue = Image.new("RGB", (200, 150), "red"), Image.new("RGB", (200, 150), "blue")
    plain = picture_grid([[red, blue], [blue, None]], ["a", "b"], ["c", "d"])
    long = "words that go on " * 40
    sheet = picture_grid(
        [[red, blue], [blue, None]], ["a", long], ["c", "d"], notes=[["1", "2"], ["3", ""]], footer=["all of it", long]
    )
    assert sheet.width == plain.width == 160 + 2 * 208
    assert sheet.height > plain.height
    pixels = np.asarray(sheet)
    for colour, count in (((255, 0, 0), 1), ((0, 0, 255), 2)):
        assert (pixels == colour).all(-1).sum() == count * 200 * 150
    ink = (pixels < 128).all(-1)
    assert ink[-40:].any()  # the footer
    assert ink[-40:, :200].any()
    told = []
    texts = picture_grid_module._Sheet._lines
    monkeypatch.setattr(
        picture_grid_module._Sheet,
        "_lines",
        lambda self, text, *rest: told.append(text) or texts(self, text, *rest),
    )
    small = picture_grid([[red.resize((50, 40))]], ["a"], ["c"], notes=[["1"]])
    assert (np.asarray(small) == (255, 0, 0)).all(-1).sum() == 150 * 120
    assert "Pictures are shown 3 times as large as drawn." in told
    monkeypatch.setattr(picture_grid_module, "_MOST_PIXELS", 200 * 150)
    large = picture_grid([[red, red], [red, red]], ["a", "b"], ["c", "d"], notes=[["1", "2"], ["3", "4"]])
    assert (np.asarray(large) == (255, 0, 0)).all(-1).sum() == 200 * 150
    assert "Pictures are shown at 50 % of their size." in told


def test_letters_that_no_font_has_are_told(monkeypatch):
    """Pillow's own font has no Chinese; what a machine has besides is another matter."""
    own = picture_grid_module.ImageFont.load_default(15)
    assert picture_grid_module._lacking("A cat, 猫…", own) == {"猫"}
    monkeypatch.setattr(picture_grid_module, "_FONTS", ("no such font.ttf",))
    assert picture_grid_module._font_for("猫", 15)[2]
    _, signs, lacks = picture_grid_module._font_for("64 × 64 · −1.2, 3–4 …", 15)
    assert not lacks
    assert "64 × 64, −1.2, 3–4".translate(signs) == "64 x 64, -1.2, 3-4"
    lines = list(picture_grid_module._wrapped("猫" * 40, 100, own))
    assert "".join(lines) == "猫" * 40
    assert all(own.getlength(line) <= 100 for line in lines)
