"""Layers by the words a person has for them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layer_patterns import layers_of, read_layer_patterns
from dit_prune_viz.pipelines.layers import OUTSIDE


@dataclass(frozen=True)
class One:
    name: str
    kind: str
    block: int
    stack: str = "blocks"

    @property
    def place(self) -> str:
        return OUTSIDE if self.stack == OUTSIDE else f"block {self.block}"


LAYERS = (
    One("proj_in", "other", -1, OUTSIDE),
    *(
        One(f"blocks.{block}.{path}", kind, block)
        for block in range(12)
        for path, kind in (("attn.to_q", "q"), ("attn.to_out.0", "attn out"), ("norm.linear", "adaLN"))
    ),
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("blocks.3.attn.to_q", r"blocks\.3\.attn\.to_q"),
        ("blocks.3.attn", r"blocks\.3\.attn\..*"),
        ("blocks.1", r"blocks\.1\..*"),
        ("block 1", r"blocks\.1\..*"),
        ("BLOCK 1", r"blocks\.1\..*"),
        ("blocks 9-40", r"blocks\.(9|10|11)\..*"),
        ("blocks 0 - 1", r"blocks\.[01]\..*"),
        ("q", r".*to_q"),
        ("ADALN", r".*linear"),
        ("attn out", r".*to_out\.0"),
        ("attn*", r".*to_out\.0"),
        ("*.to_out.*", r".*to_out\.0"),
        ("blocks.?.attn.to_q", r"blocks\.\d\.attn\.to_q"),
        (OUTSIDE, "proj_in"),
        ("proj_in", "proj_in"),
        ("*", ".*"),
    ],
)
def test_a_pattern_means_paths_kinds_and_blocks(pattern, expected):
    assert layers_of(pattern, LAYERS) == tuple(one.name for one in LAYERS if re.fullmatch(expected, one.name))


def test_of_two_denoisers_a_path_means_both():
    both = [replace(one, name=f"{part}.{one.name}") for part in ("transformer", "transformer_2") for one in LAYERS]
    assert len(layers_of("blocks.3.attn.to_q", both)) == 2
    assert layers_of("transformer_2.blocks.3.attn.to_q", both) == ("transformer_2.blocks.3.attn.to_q",)


@pytest.mark.parametrize("pattern", ["nothing", "block 12", "blocks 5-4", "blocks.12", "to_q", "mlp in", "block"])
def test_a_pattern_that_means_nothing_says_what_there_is(pattern):
    with pytest.raises(UserError) as caught:
        layers_of(pattern, LAYERS)
    sentence = str(caught.value)
    assert pattern in sentence
    assert "adaLN, q, attn out, other, blocks 0-11, and names such as proj_in." in sentence


def test_the_kinds_of_a_real_model_are_known(flux):
    for kind in {layer.kind for layer in flux.layers}:
        assert layers_of(kind, flux.layers) == tuple(layer.name for layer in flux.layers if layer.kind == kind)
    for layer in flux.layers:
        assert layer.name in layers_of(layer.place, flux.layers)


def test_patterns_are_read_from_a_text_or_a_list():
    assert read_layer_patterns(" adaLN ,block  3;\n attn out, adaLN,") == ("adaLN", "block 3", "attn out")
    assert read_layer_patterns(["blocks 0–4", "q, k"]) == ("blocks 0-4", "q", "k")
    assert read_layer_patterns("") == read_layer_patterns(()) == ()


@pytest.mark.parametrize(
    "bad", [3, None, [3], {"a": 1}.values(), "re:.*head", "<b>", "../up/a", "a" * 201, "[ab]", ["\ud800"], "a\x00"]
)
def test_what_cannot_name_layers_is_one_sentence(bad):
    with pytest.raises(UserError) as caught:
        read_layer_patterns(bad)
    assert str(caught.value).endswith(".")
    with pytest.raises(UserError, match="more than 1,000"):
        read_layer_patterns([f"block {i}" for i in range(1001)])
