"""What is prunable of the public models' transformers, counted by hand from their shapes, and why the rest is not."""

from __future__ import annotations

import diffusers
import pytest
import torch
from torch import nn

from dit_prune_viz.pipelines.dense_parts import dense_parts, dense_sentence
from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.opening import open_model
from dit_prune_viz.resources import BUNDLED_MODEL

PIXART = {"num_layers": 28, "caption_channels": 4096, "sample_size": 128}
SD35 = {
    "num_layers": 24,
    "caption_projection_dim": 1536,
    "num_attention_heads": 24,
    "dual_attention_layers": range(13),
    "pos_embed_max_size": 384,
}
# Class → configuration of the published model, and its prunable weights: matrices of one block times the blocks.
PUBLISHED = {
    "SanaTransformer2DModel": (
        {"num_layers": 20},
        # eight attention projections; a GLU of 2.5 × the width, whose input is twice as wide
        20 * (8 * 2240**2 + 3 * 5600 * 2240),
        {"modulation": "time_embed.linear", "convolutions": "transformer_blocks.*.ff.conv_depth"},
    ),
    "SanaVideoTransformer3DModel": (
        {"num_layers": 20, "mlp_ratio": 3.0},
        20 * (8 * 2240**2 + 3 * 6720 * 2240),
        {"convolutions": "transformer_blocks.*.ff.conv_temp"},
    ),
    "PixArtTransformer2DModel": (
        PIXART,
        28 * (8 * 1152**2 + 2 * 4 * 1152**2),
        {"modulation": "adaln_single.linear", "embedders": "caption_projection.linear_1"},
    ),
    "FluxTransformer2DModel": (
        {"guidance_embeds": True},
        # dual: two streams of adaLN 6, attention 4, MLP 8; single: adaLN 3, qkv 3, MLP in 4, out 5
        19 * 2 * 18 * 3072**2 + 38 * 15 * 3072**2,
        {"embedders": "context_embedder", "final layers": "norm_out.linear"},
    ),
    "SD3Transformer2DModel": (
        SD35,
        # as FLUX, plus a second attention and adaLN 9 in the first 13; the last context stream ends in adaLN 2
        (24 * 2 * 18 + 13 * 7 - (6 - 2) - 1 - 8) * 1536**2,
        {"embedders": "context_embedder"},
    ),
    "ChromaTransformer2DModel": (
        {},
        (19 * 2 * 12 + 38 * 12) * 3072**2,
        {"modulation": "distilled_guidance_layer.layers.*.linear_1"},
    ),
    "WanTransformer3DModel": (
        {},
        40 * (8 * 5120**2 + 2 * 5120 * 13824),
        {"modulation": "condition_embedder.time_proj"},
    ),
    "BriaFibo2Transformer2DModel": ({}, None, {"other": "perceiver.layers.*.ffn.w1"}),
    "NucleusMoEImageTransformer2DModel": (
        {},
        None,
        {"stacked experts": "transformer_blocks.*.img_mlp.experts.gate_up_proj"},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_by_hand(name):
    config, prunable, largest = PUBLISHED[name]
    with torch.device("meta"):
        transformer = getattr(diffusers, name)(**config)
    layers = list_layers(transformer)
    shapes = {key: tuple(parameter.shape) for key, parameter in transformer.named_parameters()}
    parts = dense_parts(shapes, [layer.name for layer in layers], {layer.stack for layer in layers})
    found, parameters = (
        sum(layer.weights for layer in layers),
        sum(map(torch.Size.numel, map(torch.Size, shapes.values()))),
    )
    if prunable is not None:
        assert found == prunable
    assert found + sum(part.parameters for part in parts) == parameters
    assert [part.parameters for part in parts] == sorted((part.parameters for part in parts), reverse=True)
    first = {part.reason: part.examples[0] for part in parts}
    assert largest.items() <= first.items()


@pytest.mark.parametrize("name", ["SanaTransformer2DModel", "SanaVideoTransformer3DModel", "SanaWMTransformer3DModel"])
def test_no_matrix_of_a_block_is_left_out(name):
    """A naive walk: Linear or kernel of 1 everywhere, groups of 1, in a block, and no embedder."""
    with torch.device("meta"):
        transformer = getattr(diffusers, name)()
    walked = {
        path: module.weight.numel()
        for path, module in transformer.named_modules()
        if "blocks." in path
        and "emb" not in path
        and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and module.weight[0, 0].numel() == 1
        and getattr(module, "groups", 1) == 1
    }
    assert {layer.name: layer.weights for layer in list_layers(transformer)} == walked
    assert {layer.kind for layer in list_layers(transformer) if layer.convolution} == {"mlp in", "mlp out"}


def test_the_bundled_model_knows_its_dense_parts_before_and_after_it_is_open():
    model = open_model(LoadSettings(str(BUNDLED_MODEL), device="cpu", dtype="float32"))
    before = model.dense_parts
    assert model._opener.weights is not None  # nothing was opened for it
    assert sum(part.parameters for part in before) == model.parameters - model.prunable_parameters
    _ = model.pipeline
    del model.__dict__["dense_parts"]
    assert {(part.reason, part.parameters) for part in model.dense_parts} == {
        (part.reason, part.parameters) for part in before
    }


def test_the_sentence_adds_up_and_names_examples():
    shapes = {"blocks.0.to_q.weight": (9, 100), "blocks.0.to_q.bias": (90,), "t_block.1.weight": (1, 10)}
    parts = dense_parts(shapes, ["blocks.0.to_q"], {"blocks"})
    assert dense_sentence(parts, 1000) == (
        "90 % of the transformer's parameters are prunable. Dense: biases 9 %; modulation 1 % (t_block.1)."
    )
