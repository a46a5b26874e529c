"""What the sliders of the cluster table do to a session, and what they are never allowed to do."""

from __future__ import annotations

import json

import pytest

from dit_prune_viz.errors import UserError
from dit_prune_viz.ui import cluster_table, layer_tab
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.workspace import Workspace


@pytest.fixture(scope="module")
def session(tiny_clip, tiny_flux):
    workspace = Workspace(clip=tiny_clip, device="cpu", dtype="float32")
    ready = Session(workspace).load_model(str(tiny_flux)).calibrate(8, 0)
    first, second = [layer.name for layer in ready.model.layers if layer.kind == "adaLN"][:2]
    return ready.cluster(first, k=3).cluster(second, k=3)


@pytest.fixture(scope="module")
def layers(session):
    return tuple(session.clusters)


def edit(session, layer, cluster, sparsity):
    """The edit that a slider of the table shown for `session` sends."""
    shown = json.loads(cluster_table.show(session, layer))
    return {
        "layer": shown["layer"],
        "clustering": shown["clustering"],
        "cluster": shown["rows"][cluster]["id"],
        "sparsity": sparsity,
    }


def test_edits_of_several_rows_and_layers_are_all_made(session, layers):
    first, second = layers
    edits = [edit(session, first, 0, 0.0), edit(session, first, 2, 1.0), edit(session, second, 1, 0.0)]
    after = cluster_table.apply(session, edits)
    assert [after.cluster_rows(first)[cluster].sparsity for cluster in (0, 2)] == [0.0, 1.0]
    assert after.cluster_rows(first)[1].sparsity == session.cluster_rows(first)[1].sparsity
    assert after.cluster_rows(second)[1].sparsity == 0.0


@pytest.mark.parametrize(
    "moved_on",
    [
        lambda s, layer: s.cluster(layer, k=2),
        lambda s, layer: s.cluster(layer, "column", k=3),
        lambda s, layer: s.calibrate(8, 1),
        lambda s, layer: s.load_model(s.model.source),
    ],
    ids=["other clusters", "other units", "calibrated anew", "loaded anew"],
)
def test_an_edit_of_clusters_that_are_gone_changes_nothing(session, layers, moved_on):
    late = edit(session, layers[0], 0, 1.0)
    now = moved_on(session, layers[0])
    assert cluster_table.apply(now, [late]) is now


def test_an_edit_survives_that_another_layer_was_opened_or_the_same_clusters_found_again(session, layers):
    late = edit(session, layers[0], 0, 1.0)
    now = session.cluster(layers[1], k=2).cluster(layers[0], k=3)
    assert cluster_table.apply(now, [late]).cluster_rows(layers[0])[0].sparsity == 1.0


def test_a_sparsity_beyond_its_bounds_is_a_mistake(session, layers):
    with pytest.raises(UserError):
        cluster_table.apply(session, [edit(session, layers[0], 0, 1.5)])


def test_a_table_without_clusters_has_no_rows(session):
    bare = session.load_model(session.model.source)
    for now, layer in ((None, None), (bare, bare.model.layers[0].name), (session, "nowhere")):
        assert json.loads(cluster_table.show(now, layer))["rows"] == []


def test_a_later_table_says_so(session, layers):
    tables = [json.loads(cluster_table.show(session, layers[0])) for _ in range(2)]
    assert tables[0]["at"] < tables[1]["at"]
    assert tables[1]["at"] < cluster_table.answer(1, changed=True).props["answered"]["at"]
    assert cluster_table.answer(1, changed=False).props["answered"]["at"] is None


def test_a_lasso_of_other_clusters_says_nothing_and_raises_nothing(session, layers):
    clustering = json.loads(cluster_table.show(session, layers[0]))["clustering"]
    assert "selected" in layer_tab.describe_selection(session, layers[0], (clustering, (0, 1)))
    for now, layer in (
        (session, layers[1]),
        (session.cluster(layers[0], k=2), layers[0]),
        (session.load_model(session.model.source), layers[0]),
        (None, None),
    ):
        assert layer_tab.describe_selection(now, layer, (clustering, (0, 1, 10**6))) == layer_tab.HINT
