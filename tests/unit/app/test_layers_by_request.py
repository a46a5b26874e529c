"""Layers by request in the app: one pipeline for all, undo, the list on the map page, and the map itself."""

from __future__ import annotations

import json

import pytest

from dit_prune_viz.app.pages.map import also_prune
from dit_prune_viz.app.pages.map.view import heat_figure
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.app.widgets import layer_list
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.load_settings import LoadSettings

ADALN = "adaln_single.linear"


@pytest.fixture(scope="module")
def usual(store, tiny_pixart):
    return Session(store).load_model(str(tiny_pixart)).calibrate(8, 0)


def test_more_layers_are_another_model_around_the_same_pipeline(store, usual, tiny_pixart):
    assert usual.also_prune([]) is usual
    more = usual.also_prune([ADALN])
    assert more.model.pipeline is usual.model.pipeline
    assert set(more.masks) - set(usual.masks) == {ADALN}
    assert more.recipe == usual.recipe
    assert Session(store).load_model(str(tiny_pixart), also_prune=f"{ADALN} {ADALN}").model is more.model
    assert Session(store).load_model(str(tiny_pixart)).model is usual.model
    assert more.also_prune(()).model is usual.model
    with pytest.raises(UserError, match="choose from adaln_single"):
        usual.also_prune("nothing")
    assert Session(store).load_model(str(tiny_pixart)).also_prune(ADALN).plan is None


def test_undo_and_redo_bring_the_layers_back(usual):
    history = History()
    history.present = usual
    more = usual.also_prune(ADALN)
    history.step(usual, more, "the last change")
    masks = {name: mask.digest for name, mask in more.masks.items()}
    assert history.undo().model.also_prune == ()
    again = history.redo()
    assert again.model.also_prune == (ADALN,)
    assert {name: mask.digest for name, mask in again.masks.items()} == masks


def test_the_app_starts_with_them(tiny_pixart, tiny_clip):
    settings = AppSettings(
        LoadSettings(str(tiny_pixart), "cpu", "float32", also_prune=("adaln_single",)), str(tiny_clip)
    )
    session = start(settings).wait()
    assert {layer.name for layer in session.model.layers if layer.by_request} == {
        ADALN,
        "adaln_single.emb.timestep_embedder.linear_1",
        "adaln_single.emb.timestep_embedder.linear_2",
    }


def test_the_page_offers_them_by_name_and_shows_which_are_taken(usual):
    more = usual.also_prune(ADALN)
    for session, chosen in ((usual, []), (more, [ADALN])):
        shown, number = also_prune.show(session, None)
        share = f"{100 * 6 * 32 * 32 / session.model.parameters:.1f} %"
        assert (f"{ADALN} (modulation, {share})", ADALN) in shown.choices
        assert list(shown.value) == chosen
        assert number == session.model.number
        assert not hasattr(also_prune.show(session, number)[0], "choices")  # a choice that is not applied yet stays


def test_every_layer_is_on_the_map_and_in_the_list(usual):
    more = usual.also_prune("adaln_single, caption_projection, proj_out")
    heat = heat_figure(more, "damage").data[0]
    assert list(heat.x) == [-2, -1, 0, 1, 2]
    cells = [cell for row in heat.customdata for cell in row if cell[0]]
    held = [name for cell in cells for name in (cell[3].split("\n") if cell[3] else [cell[0]])]
    assert sorted(held) == sorted(layer.name for layer in more.model.layers)
    words = {cell[0]: cell[2] for cell in cells}
    assert words[ADALN] == "adaLN, outside the blocks"
    assert words["transformer_blocks.1.attn1.to_q"] == "q, block 1"
    places = {row["name"]: row["place"] for row in json.loads(layer_list.show(more))["rows"]}
    assert (places[ADALN], places["transformer_blocks.0.ff.net.2"]) == ("outside the blocks", "block 0")
