"""Selections, clusters and neighbours as files from the Layer page and the API."""

from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest

from dit_prune_viz.app.session import answers, layer_data, unit_files
from dit_prune_viz.errors import UserError

SELECTED = np.array([1, 3, 4])


@pytest.fixture(scope="module")
def clustered(ready):
    return ready.cluster(ready.model.layers[0].name, "row", k=3)


@pytest.fixture
def layer(clustered):
    return clustered.model.layers[0].name


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def naive(features: np.ndarray, unit: int, k: int) -> list[int]:
    scaled = (features.astype(float) - features.astype(float).mean(0)) / features.astype(float).std(0)
    order = np.argsort(((scaled - scaled[unit]) ** 2).sum(1), kind="stable")
    return [int(other) for other in order if other != unit][:k]


def test_a_selection_is_saved_as_json_and_csv(clustered, layer):
    name, text = unit_files.file_of(clustered, layer, "selection", "json", SELECTED)
    assert name == f"{layer}-selection.json"
    assert json.loads(text)["units"] == [1, 3, 4]
    name, text = unit_files.file_of(clustered, layer, "selection", "csv", SELECTED)
    assert [row["row"] for row in rows(text)] == ["1", "3", "4"]


def test_clusters_are_saved_whatever_is_selected(clustered, layer):
    found = rows(unit_files.file_of(clustered, layer, "clusters", "csv", SELECTED[:0])[1])
    assert [int(row["cluster"]) for row in found] == clustered.clusters[layer].labels.tolist()
    (kept,) = json.loads(unit_files.file_of(clustered, layer, "clusters", "json", SELECTED[:0])[1])
    assert [len(cluster["units"]) for cluster in kept["clusters"]] == clustered.clusters[layer].sizes.tolist()


def test_neighbours_are_saved_and_can_be_selected(clustered, layer):
    points = layer_data.points(clustered, layer, "row")
    expected = {unit: naive(points, unit, 8) for unit in SELECTED.tolist()}
    found = json.loads(unit_files.file_of(clustered, layer, "neighbours", "json", SELECTED)[1])["neighbours"]
    assert {row["of"]: [near["at"] for near in row["nearest"]] for row in found} == expected
    lines = rows(unit_files.file_of(clustered, layer, "neighbours", "csv", SELECTED)[1])
    assert [(int(line["row"]), int(line["neighbour_row"])) for line in lines] == [
        (unit, near) for unit in SELECTED.tolist() for near in expected[unit]
    ]
    selected = unit_files.with_neighbours(clustered, layer, SELECTED)
    assert selected.tolist() == sorted({*SELECTED.tolist(), *itertools.chain(*expected.values())})


def test_the_api_answers_neighbours_of_a_weight_with_row_and_column(clustered, layer):
    width = clustered.model.layer(layer).shape[1]
    told = answers.describe_neighbours(clustered, layer, "weight", 7, 3, "plane")
    assert told["index"] == 7
    assert [near["row"] * width + near["column"] for near in told["neighbours"]] == [
        near["index"] for near in told["neighbours"]
    ]
    distances = [near["distance"] for near in told["neighbours"]]
    assert distances == sorted(distances)
    by_profile = answers.describe_neighbours(clustered, layer, "row", 0, 3, "profile")
    assert len(by_profile["neighbours"]) == 3


def test_the_api_answers_a_selection_with_its_figures(clustered, layer):
    told = answers.describe_selection(clustered, layer, "row", "1, 3-4")
    assert told["units"] == [1, 3, 4]
    assert told["weights"] == 3 * clustered.model.layer(layer).shape[1]
    kept = clustered.masks[layer].unpack().numpy()[[1, 3, 4]]
    assert told["sparsity"] == pytest.approx(1 - kept.mean())
    assert [row["row"] for row in rows(told["csv"])] == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (("row", [10**6]), "must be a whole number from 0 to"),
        (("row", [0], 0), "neighbours k must be a whole number from 1"),
        (("head", [0]), "There is no unit 'head'"),
        (("row", [0], 3, "umap"), "by plane or profile"),
        (("weight", [0], 3, "profile"), "no profile of its own"),
        (("row", []), "1 to 1,000 units"),
    ],
)
def test_impossible_neighbours_are_refused_in_a_sentence(clustered, layer, asked, problem):
    with pytest.raises(UserError, match=problem):
        unit_files.neighbours(clustered, layer, *asked)


def test_nothing_is_saved_of_nothing(clustered, layer):
    for kind in ("selection", "neighbours"):
        with pytest.raises(UserError, match="Nothing is selected"):
            unit_files.file_of(clustered, layer, kind, "json", SELECTED[:0])
    with pytest.raises(UserError, match="choose from the list"):
        unit_files.file_of(clustered, layer, "masks", "json", SELECTED)
    single = clustered.cluster(layer, "weight", k=2)
    with pytest.raises(UserError, match="save them as JSON"):
        unit_files.file_of(single, layer, "clusters", "csv", SELECTED)
