"""Sparsities as text: what every way to name layers means, and plans that come back the same from what is written."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layers import OUTSIDE, Layer
from dit_prune_viz.pruning.sparsity_presets import presets
from dit_prune_viz.pruning.sparsity_text import read_sparsities
from dit_prune_viz.pruning.sparsity_words import write_sparsities

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
PARTS = {
    DOUBLE: {"norm1.linear": "adaLN", "norm1_context.linear": "adaLN context", "attn.to_q": "q", "ff.net.2": "mlp out"},
    SINGLE: {"norm.linear": "adaLN", "attn.to_q": "q", "proj_out": "fused out"},
}


def flux(double: int = 19, single: int = 38, shape: tuple[int, int] = (30, 20)) -> tuple[Layer, ...]:
    """FLUX.1's two stacks, with fewer layers per block."""
    places = [(DOUBLE, i, i) for i in range(double)] + [(SINGLE, i, double + i) for i in range(single)]
    return tuple(
        Layer(f"{stack}.{index}.{name}", stack, block, kind, shape)
        for stack, index, block in places
        for name, kind in PARTS[stack].items()
    )


FLUX = flux()


def of(test) -> set[str]:
    return {layer.name for layer in FLUX if test(layer)}


MEANINGS = {
    "3": lambda layer: layer.block == 3,
    "block 3": lambda layer: layer.block == 3,
    "0-4": lambda layer: layer.block <= 4,
    "blocks 0 – 4": lambda layer: layer.block <= 4,
    "17-20": lambda layer: 17 <= layer.block <= 20,
    "adaLN": lambda layer: layer.kind == "adaLN",
    "ADALN*": lambda layer: layer.kind.startswith("adaLN"),
    "adaLN 0-4": lambda layer: layer.kind == "adaLN" and layer.block <= 4,
    "adaLN · block 3": lambda layer: layer.kind == "adaLN" and layer.block == 3,
    "mlp out 2": lambda layer: layer.kind == "mlp out" and layer.block == 2,
    "single": lambda layer: layer.stack == SINGLE,
    "single 0-10": lambda layer: layer.stack == SINGLE and layer.block <= 19 + 10,
    "single_transformer_blocks 37": lambda layer: layer.block == 56,
    "single transformer blocks 37": lambda layer: layer.block == 56,
    "single blocks 1": lambda layer: layer.block == 20,
    "single q 0": lambda layer: layer.name == f"{SINGLE}.0.attn.to_q",
    "transformer 5": lambda layer: layer.block == 5,
    "transformer_blocks 18": lambda layer: layer.block == 18,
    "double": lambda layer: layer.stack == DOUBLE,
    "double adaLN": lambda layer: layer.stack == DOUBLE and layer.kind == "adaLN",
    f"{SINGLE}.3.proj_out": lambda layer: layer.name == f"{SINGLE}.3.proj_out",
    f"{SINGLE}.3": lambda layer: layer.block == 22,
    "*.attn.to_q": lambda layer: layer.kind == "q",
    "all": lambda layer: True,
    "*": lambda layer: True,
}


@pytest.mark.parametrize("words", MEANINGS)
def test_what_an_entry_means(words):
    assert read_sparsities(f"{words}:25", FLUX) == dict.fromkeys(of(MEANINGS[words]), 0.25)


def test_later_entries_win_and_layers_without_an_entry_are_left_out():
    found = read_sparsities("0-4:30, 5-18:60\nadaLN: 12.5 %; single 2=0", FLUX)
    expected = {}
    for layer in FLUX:
        if layer.block <= 4:
            expected[layer.name] = 0.3
        elif layer.block <= 18:
            expected[layer.name] = 0.6
        if layer.kind == "adaLN":
            expected[layer.name] = 0.125
        if layer.block == 21:
            expected[layer.name] = 0.0
    assert found == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Write blocks"),
        (" ,;\n", "Write blocks"),
        ("0-4", "'0-4' needs layers and a sparsity"),
        (":30", "':30' needs layers"),
        ("0-4:30,5", "'5' needs layers"),
        ("0-4:", "'0-4:' has no percentage"),
        ("0-4:101", "'0-4:101' has no percentage"),
        ("0-4:-3", "'0-4:-3' has no percentage"),
        ("0-4:nan", "'0-4:nan' has no percentage"),
        ("0-4:1e1", "'0-4:1e1' has no percentage"),
        ("all:50, 4-0:30", "'4-0' runs backwards; write 0-4"),
        ("0-57:30", "there is no block 57; the last one is 56"),
        ("single 38:30", "there is no block 38; the last one is 37"),
        ("fused out 0-3:30", "'fused out 0-3' means no prunable layer"),
        ("nothing:30", "'nothing' means no prunable layer of this model; there are the kinds adaLN"),
        ("nothing 3:30", "'nothing 3' means no prunable layer"),
        ("<b>:30", "'<b>' names no layers"),
        (None, "not as None"),
        (7, "not as 7"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(text, said):
    with pytest.raises(UserError, match=re.escape(said)) as found:
        read_sparsities(text, FLUX)
    assert str(found.value).rstrip(".").count(". ") == 0


def test_two_denoisers_are_told_apart():
    layers = tuple(
        replace(layer, name=f"{part}.{layer.name}", stack=f"{part}.{layer.stack}", block=layer.block + at)
        for at, part in ((0, "transformer"), (3, "transformer_2"))
        for layer in flux(3, 0)
    )
    assert set(read_sparsities("transformer 0:10", layers)) == {one.name for one in layers if one.block == 0}
    assert set(read_sparsities("transformer_2 0:10", layers)) == {one.name for one in layers if one.block == 3}


def test_layers_outside_the_blocks_have_no_number_but_a_kind():
    layers = (Layer("adaln_single.linear", OUTSIDE, -1, "adaLN", (30, 20)), *flux(2, 0))
    assert "adaln_single.linear" not in read_sparsities("0-1:10", layers)
    assert "adaln_single.linear" in read_sparsities("adaLN:10", layers)
    values = {layer.name: 0.5 for layer in layers} | {"adaln_single.linear": 0.1}
    assert read_sparsities(write_sparsities(values, layers), layers) == values


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("all:50", "all:50"),
        ("0-56:50", "all:50"),
        ("0-4:30, 5-56:60", "all:60, 0-4:30"),
        ("all:60, 0-4:30, adaLN:40", "all:60, 0-4:30, adaLN:40"),
        ("all:60, adaLN:40, 0-4:30", "all:60, adaLN:40, 0-4:30"),
        ("all:50, single 2-6:10, 30:20", "all:50, 21-25:10, 30:20"),
        ("all:50, q 3-9:12.5", "all:50, q 3-9:12.5"),
        ("all:50, single_transformer_blocks.3.proj_out:0", "all:50, fused out 22:0"),
    ],
)
def test_what_is_written_is_short(text, written):
    assert write_sparsities(read_sparsities(text, FLUX), FLUX) == written


SMALL = flux(4, 5, (8, 6))
ENTRIES = st.tuples(
    st.sampled_from(
        ["all", "0-3", "4-8", "2", "adaLN", "q", "q 1-6", "single 1-2", "double", *(x.name for x in SMALL)]
    ),
    st.sampled_from(["0", "20", "33.3", "50", "100"]) | st.floats(0, 100).map(lambda share: f"{share:.6f}"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ENTRIES, max_size=8))
def test_a_plan_comes_back_from_what_is_written_of_it(entries):
    text = ", ".join(f"{words}:{share}" for words, share in [("all", "50"), *entries])
    values = read_sparsities(text, SMALL)
    again = read_sparsities(write_sparsities(values, SMALL), SMALL)
    assert again.keys() == values.keys()
    for name, share in values.items():
        for size in (6, 8, 48):  # a row, a column, the layer
            assert math.floor(size * again[name] + 1e-9) == math.floor(size * share + 1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 600), min_size=36, max_size=36))
def test_counts_of_an_allocation_come_back_to_the_weight(counts):
    layers = flux(4, 5)[:36]
    values = {layer.name: min(count, 600) / 600 for layer, count in zip(layers, counts, strict=False)}
    values |= {layer.name: 0.5 for layer in layers if layer.name not in values}
    again = read_sparsities(write_sparsities(values, layers), layers)
    for name, share in values.items():
        assert math.floor(600 * again[name] + 1e-9) == round(600 * share)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("layers", [FLUX, flux(9, 0), flux(2, 1)], ids=["flux", "nine", "three"])
def test_presets_keep_the_overall_sparsity_and_do_what_they_are_called(layers, sparsity):
    offered = {preset.name: read_sparsities(preset.text, layers) for preset in presets(layers, sparsity)}
    for values in offered.values():
        assert values.keys() == {layer.name for layer in layers}
        mean = sum(values.values()) / len(values)  # all layers here have the same size
        assert mean == pytest.approx(sparsity, abs=1.5e-3)
    assert set(offered["Uniform"].values()) == {sparsity}
    assert ("Middle heavy" in offered) == (len({layer.block for layer in layers}) > 3)
    if sparsity == 0.5:
        adaln = {values for name, values in offered["Protect adaLN"].items() if "norm" in name}
        assert adaln == {0.0}
    if sparsity == 0.5 and "Middle heavy" in offered:
        last = max(layer.block for layer in layers)
        by_block = {layer.block: layer.name for layer in layers}
        hat, ends = offered["Middle heavy"], offered["Protect first and last blocks"]
        assert hat[by_block[0]] < 0.45 < 0.55 < hat[by_block[last // 2]]
        assert {ends[by_block[0]], ends[by_block[last]]} == {0.0}
        assert ends[by_block[last // 2]] > 0.5
    assert presets((), sparsity) == ()
