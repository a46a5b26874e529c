"""The selection that all views of a layer share, and what undo does to a page's sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_searches import LAYERS as SEARCHED
from layer_searches import SEARCHES

from dit_prune_viz.app.session.selection import Selection, find_layer, is_name, packed, says, search, unpack
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layers import Layer

IDS = st.lists(st.integers(0, 99))


@given(IDS, IDS, st.sampled_from(["set", "add", "subtract"]))
def test_selections_combine_as_sets(old, new, mode):
    found = Selection("layer").changed(old, "set", "units").changed(new, mode, "plane")
    expected = {"set": set(new), "add": set(old) | set(new), "subtract": set(old) - set(new)}[mode]
    assert found.ids.tolist() == sorted(expected)
    assert found.ids.dtype == np.int32
    assert (found.subject, found.origin) == ("layer", "plane")


@given(IDS)
def test_ids_survive_the_way_through_the_browser(ids):
    assert unpack(packed(np.array(ids, dtype=np.int64))).tolist() == ids


def test_a_selection_lasts_as_long_as_its_subject():
    selection = Selection("a", np.array([1], np.int32))
    assert selection.of("a") is selection
    assert len(selection.of("b")) == 0


@pytest.mark.parametrize(("text", "ids"), [("7", [7]), ("3, 5 8-10", [3, 5, 8, 9, 10]), ("5-5;5", [5]), ("0", [0])])
def test_channels_are_found_by_number(text, ids):
    assert search(text, 20).tolist() == ids


@pytest.mark.parametrize("text", ["", "x", "20", "9-3", "1-99999999999", "-1", "1e3", "1.5"])
def test_a_search_for_what_is_not_there_is_one_sentence(text):
    with pytest.raises(UserError):
        search(text, 20)


@pytest.mark.parametrize("bad", ["###", "AAA", None, "AA=="])
def test_broken_ids_are_a_mistake(bad):
    with pytest.raises(UserError):
        unpack(bad)


LAYERS = (
    Layer("blocks.1.attn.to_q", "blocks", 1, "q", (4, 4)),
    Layer("blocks.11.norm.linear", "blocks", 11, "adaLN", (4, 4)),
    Layer("blocks.1.norm.linear", "blocks", 1, "adaLN", (4, 4)),
    Layer("blocks.2.ff.net.3", "blocks", 2, "mlp out", (4, 4)),
    Layer("blocks.3.ff.net.2", "blocks", 3, "mlp out", (4, 4)),
    Layer("blocks.3.attn.to_k", "blocks", 3, "k", (4, 4)),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blocks.1.norm.linear", "blocks.1.norm.linear"),
        ("  BLOCKS.11 ", "blocks.11.norm.linear"),
        ("adaLN", "blocks.11.norm.linear"),
        ("adaln block 1", "blocks.1.norm.linear"),
        ("to_q", "blocks.1.attn.to_q"),
        ("mlp out 3", "blocks.3.ff.net.2"),
        ("K 3", "blocks.3.attn.to_k"),
    ],
)
def test_layers_are_found_by_any_part_of_what_they_are_called(text, name):
    assert is_name(text)
    assert find_layer(text, LAYERS) == name


@pytest.mark.parametrize("text", SEARCHES)
def test_the_block_s_number_and_the_text_on_the_page_find_their_layer(text):
    found = find_layer(text, SEARCHED)
    assert found in SEARCHES[text]
    asked = text.lower().replace("·", " ").split()
    if "·" not in text:  # the words alone mean these layers and no others
        assert [layer.name for layer in SEARCHED if says(layer, asked)] == SEARCHES[text]


def test_a_layer_that_is_not_there_is_named_in_the_sentence():
    with pytest.raises(UserError, match="No layer matches 'fused'"):
        find_layer("fused", LAYERS)
    assert not any(is_name(text) for text in ("12", "3, 40-60", "10–20", "", "1_000"))
