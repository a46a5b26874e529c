"""Layers that are prunable by request: which, what they are called, where they stand, and what else stays as it is."""

from __future__ import annotations

import diffusers
import pytest
import torch
from torch import nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.also_prune import offers, read_patterns
from dit_prune_viz.pipelines.layers import OUTSIDE, dense_matrices, list_layers
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.opening import OpeningModel, open_model
from dit_prune_viz.resources import BUNDLED_MODEL

# Class → configuration, pattern, and the weights it adds, by hand from the published shapes.
PUBLISHED = {
    "PixArtTransformer2DModel": ({"caption_channels": 4096, "num_layers": 2}, "adaln_single.linear", 6 * 1152 * 1152),
    "ChromaTransformer2DModel": (
        {"num_layers": 1, "num_single_layers": 1},
        "distilled_guidance_layer",
        64 * 5120 + 5 * 2 * 5120**2 + 5120 * 3072,
    ),
    "WanTransformer3DModel": ({"num_layers": 1}, "*.time_proj", 6 * 5120 * 5120),
    # per layer q, k, v, out of a self-attention and of a cross-attention to a text of 7,680, and a gated MLP of 9,536
    "BriaFibo2Transformer2DModel": ({}, "perceiver", 2 * (6 * 3584**2 + 2 * 7680 * 3584 + 3 * 9536 * 3584)),
    "DiTTransformer2DModel": (
        {"num_layers": 3, "norm_type": "ada_norm_zero", "num_embeds_ada_norm": 1000},
        "transformer_blocks.*.norm1.emb",  # its table of classes is no matrix that tokens are multiplied by
        3 * (256 * 1152 + 1152**2),
    ),
}


def on_meta(name: str, **config) -> nn.Module:
    with torch.device("meta"):
        return getattr(diffusers, name)(**config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_pattern_adds_by_hand(name):
    config, pattern, added = PUBLISHED[name]
    transformer = on_meta(name, **config)
    usual, more = list_layers(transformer), list_layers(transformer, [pattern])
    assert tuple(layer for layer in more if not layer.by_request) == usual
    assert sum(layer.weights for layer in more if layer.by_request) == added
    assert len({layer.name for layer in more}) == len(more)
    assert [layer.block for layer in more] == sorted(layer.block for layer in more)


def test_layers_stand_before_and_after_the_blocks_and_embedders_of_a_block_in_it():
    config = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    transformer = on_meta("ChromaTransformer2DModel", approximator_layers=2, axes_dims_rope=(2, 2, 4), **config)
    asked = list_layers(transformer, ["distilled_guidance_layer", "proj_out", "x_embedder"])
    outside = [(layer.block, layer.name, layer.kind) for layer in asked if layer.stack == OUTSIDE]
    guidance = "distilled_guidance_layer"
    assert outside == [
        (-5, f"{guidance}.in_proj", "adaLN"),
        (-4, f"{guidance}.layers.0.linear_1", "adaLN"),
        (-4, f"{guidance}.layers.0.linear_2", "adaLN"),
        (-3, f"{guidance}.layers.1.linear_1", "adaLN"),
        (-3, f"{guidance}.layers.1.linear_2", "adaLN"),
        (-2, f"{guidance}.out_proj", "adaLN"),
        (-1, "x_embedder", "other"),
        (2, "proj_out", "other"),
    ]
    assert [layer.place for layer in (asked[0], asked[-2])] == [OUTSIDE, "block 1"]
    dit = on_meta("DiTTransformer2DModel", num_layers=2, norm_type="ada_norm_zero", num_embeds_ada_norm=10)
    inside = [layer for layer in list_layers(dit, ["*.emb"]) if layer.by_request]
    assert {(layer.stack, layer.block) for layer in inside} == {("transformer_blocks", 0), ("transformer_blocks", 1)}


MORE = {
    "FluxTransformer2DModel": {"num_layers": 1, "num_single_layers": 1},
    "SanaTransformer2DModel": {"num_layers": 1},
    "HunyuanVideoTransformer3DModel": {"num_layers": 1, "num_single_layers": 1},
    "LTXVideoTransformer3DModel": {"num_layers": 1},
}


@pytest.mark.parametrize("name", [*PUBLISHED, *MORE])
def test_everything_can_be_asked_for_and_each_offer_adds_what_it_says(name):
    transformer = on_meta(name, **(MORE.get(name) or PUBLISHED[name][0]))
    matrices = {
        path: module.weight.shape.numel()
        for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))
    }
    assert {layer.name: layer.weights for layer in list_layers(transformer, ["*"])} == matrices
    usual = list_layers(transformer)
    dense, stacks = dense_matrices(transformer, [layer.name for layer in usual]), {layer.stack for layer in usual}
    found = offers(dense, stacks)
    for offer in found:
        added = [layer for layer in list_layers(transformer, [offer.pattern]) if layer.by_request]
        assert (sum(layer.weights for layer in added), len(added)) == (offer.weights, offer.layers)
    assert sum(offer.layers for offer in found) == len(dense)


def test_matrices_that_are_never_called_cannot_be_asked_for():
    """The pooling of HunyuanDiT's text hands its projections' weights to a function, so that no mask reaches them."""
    transformer = on_meta("HunyuanDiT2DModel", num_layers=2, in_channels=4, patch_size=2)
    named = [layer.name for layer in list_layers(transformer, ["*"])]
    linears = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    pool = [f"time_extra_emb.pooler.{part}_proj" for part in "kqvc"]
    assert set(linears) - set(named) == set(pool)
    with pytest.raises(UserError, match="is no layer's name"):
        list_layers(transformer, ["*.pooler"])


def test_a_pattern_that_matches_nothing_says_what_there_is():
    transformer = on_meta(
        "PixArtTransformer2DModel", num_layers=1, caption_channels=64, use_additional_conditions=False
    )
    choices = "choose from adaln_single.linear, adaln_single.emb, caption_projection, proj_out."
    with pytest.raises(UserError) as problem:
        list_layers(transformer, ["adaln_single.linear", "adaln"])
    assert str(problem.value) == f"'adaln' is no layer's name; {choices}"
    with pytest.raises(UserError) as problem:
        list_layers(transformer, ["transformer_blocks.0.attn1"])
    assert str(problem.value) == f"'transformer_blocks.0.attn1' is prunable already; {choices}"
    outer = nn.Module()
    outer.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))])
    with pytest.raises(UserError, match="has no layers that could be pruned as well"):
        list_layers(outer, ["head"])


def test_patterns_are_read_from_texts_and_lists():
    assert read_patterns("b.weight, a  b;\nc.*") == ("a", "b", "c.*")
    assert read_patterns(["b", "a,b", " "]) == ("a", "b")
    assert read_patterns("") == read_patterns(()) == ()
    for bad in (None, [None], 3, [["a"]]):
        with pytest.raises(UserError, match="named by paths"):
            read_patterns(bad)


def test_a_model_takes_layers_by_request_without_another_copy(tiny_pixart):
    usual = load_model(tiny_pixart, device="cpu", dtype="float32")
    model = usual.also_pruning("adaln_single.linear")
    assert model.pipeline is usual.pipeline
    assert model.lock is usual.lock
    assert model.cache is not usual.cache
    assert model.number != usual.number
    assert (model.fingerprint, model.identity) == (usual.fingerprint, usual.identity)
    assert usual.signature[0] == usual.identity != model.signature[0]
    assert model.prunable_parameters == usual.prunable_parameters + 6 * 32 * 32
    module = model.transformer.adaln_single.linear
    assert model.weight("adaln_single.linear").data_ptr() == module.weight.data_ptr()
    assert sum(part.parameters for part in model.dense_parts) == model.parameters - model.prunable_parameters
    modulation = next(part for part in model.dense_parts if part.reason == "modulation")
    assert modulation.parameters == (2 * 6 + 2) * 32  # tables alone: the projection's bias counts as a bias now
    assert "modulation" in {offer.reason for offer in model.offers}
    assert model.offers == usual.offers
    again = load_model(tiny_pixart, device="cpu", dtype="float32", also_prune=["adaln_single.linear.weight"])
    assert (again.layers, again.signature, again.also_prune) == (model.layers, model.signature, model.also_prune)
    back = model.also_pruning(())
    assert (back.layers, back.signature) == (usual.layers, usual.signature)
    with pytest.raises(UserError, match="choose from adaln_single"):
        usual.also_pruning("nothing")


def test_the_bundled_model_knows_its_offers_before_it_is_open():
    model = open_model(LoadSettings(str(BUNDLED_MODEL), "cpu", "float32"))
    before = model.offers
    assert model._opener.weights is not None  # nothing was opened for it
    more = open_model(LoadSettings(str(BUNDLED_MODEL), "cpu", "float32", also_prune=("norm_out", "x_embedder")))
    assert not isinstance(more, OpeningModel)
    assert more.offers == before
    assert {layer.name for layer in more.layers if layer.by_request} == {"norm_out.linear", "x_embedder"}
    assert model.also_pruning(["norm_out", "x_embedder"]).layers == more.layers
