"""Which Linear layers are prunable, in every family, and what they are called."""

from __future__ import annotations

from collections import Counter

import diffusers
import pytest
import torch
from torch import nn

from dit_prune_viz.pipelines.kinds import KINDS, classify
from dit_prune_viz.pipelines.layers import Layer, list_layers

DIT_XL_2 = {"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8}
FLUX_DEV = {"num_layers": 19, "num_single_layers": 38, "guidance_embeds": True}

# Small configurations of further families: only names and shapes matter, so the meta device is enough.
OTHERS = {
    "AuraFlowTransformer2DModel": {"num_mmdit_layers": 1, "num_single_dit_layers": 1},
    "CogVideoXTransformer3DModel": {"num_layers": 2},
    "HunyuanDiT2DModel": {
        "num_layers": 2,
        "in_channels": 4,
        "patch_size": 2,
        "cross_attention_dim": 64,
        "cross_attention_dim_t5": 64,
    },
    "Lumina2Transformer2DModel": {"num_layers": 2, "num_refiner_layers": 1},
    "QwenImageTransformer2DModel": {"num_layers": 2},
    "SanaTransformer2DModel": {"num_layers": 2},
    "WanTransformer3DModel": {"num_layers": 2},
    "Flux2Transformer2DModel": {"num_layers": 1, "num_single_layers": 1},
    "ZImageTransformer2DModel": {"n_layers": 2, "n_refiner_layers": 1},
    "HiDreamImageTransformer2DModel": {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "caption_channels": [32, 32],
        "axes_dims_rope": (8, 4, 4),
        "llama_layers": [0, 1],
        "num_routed_experts": 2,
        "num_activated_experts": 1,
        "patch_size": 2,
        "max_resolution": (16, 16),
        "text_emb_dim": 32,
    },
}


def on_meta(name: str, **config) -> nn.Module:
    with torch.device("meta"):
        return getattr(diffusers, name)(**config)


def kinds(layers: tuple[Layer, ...]) -> Counter:
    return Counter(layer.kind for layer in layers)


def test_dit_xl_2_has_the_papers_prunable_weights():
    transformer = on_meta("DiTTransformer2DModel", **DIT_XL_2)
    layers = list_layers(transformer)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(668.86, abs=0.005)
    assert not [layer.name for layer in layers if "emb" in layer.name]
    assert kinds(layers) == dict.fromkeys(("adaLN", "q", "k", "v", "attn out", "mlp in", "mlp out"), 28)
    assert layers[0].name == "transformer_blocks.0.norm1.linear"
    assert layers[0].shape == (6 * 1152, 1152)


def test_flux_dev_on_the_meta_device():
    layers = list_layers(on_meta("FluxTransformer2DModel", **FLUX_DEV))
    assert len(layers) == 19 * 14 + 38 * 6
    assert sum(layer.weights for layer in layers) == 11_834_228_736
    assert {layer.block for layer in layers} == set(range(57))
    single = [layer for layer in layers if layer.block == 19]
    assert {layer.stack for layer in single} == {"single_transformer_blocks"}
    assert [layer.kind for layer in single] == ["adaLN", "mlp in", "fused out", "q", "k", "v"]
    dual = {layer.name.removeprefix("transformer_blocks.0."): layer.kind for layer in layers if layer.block == 0}
    assert dual["norm1_context.linear"] == "adaLN context"
    assert dual["attn.add_q_proj"] == "context q"
    assert dual["attn.to_add_out"] == "context out"
    assert dual["ff_context.net.2"] == "context mlp out"


def test_sd3_second_attention_is_not_cross_attention():
    layers = list_layers(on_meta("SD3Transformer2DModel", num_layers=2, dual_attention_layers=(0,)))
    second = {layer.name: layer.kind for layer in layers if ".attn2." in layer.name}
    assert set(second.values()) == {"q", "k", "v", "attn out"}
    assert kinds(layers)["adaLN context"] == 2


def test_pixart_has_cross_attention_and_no_modulation_in_its_blocks():
    layers = list_layers(on_meta("PixArtTransformer2DModel", num_layers=3, caption_channels=4096))
    assert kinds(layers)["cross q"] == kinds(layers)["q"] == 3
    assert kinds(layers)["adaLN"] == 0
    assert not [layer.name for layer in layers if "adaln_single" in layer.name or "caption" in layer.name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_by_structure(name):
    transformer = on_meta(name, **OTHERS[name])
    layers = list_layers(transformer)
    blocks = {(layer.stack, layer.block) for layer in layers}
    assert len(blocks) >= 2
    for layer in layers:
        shape = tuple(transformer.get_submodule(layer.name).weight.shape)
        assert shape == layer.shape + (1,) * (len(shape) - 2)
        assert layer.convolution == (len(shape) > 2)
        assert layer.kind in KINDS
    assert [layer.block for layer in layers] == sorted(layer.block for layer in layers)
    routed = {layer.name for layer in layers if layer.routed}
    assert routed == {layer.name for layer in layers if ".experts." in layer.name}
    assert bool(routed) == (name == "HiDreamImageTransformer2DModel")
    named = kinds(layers)
    assert named["other"] <= len(layers) // 8  # a skip connection or a gate at most
    assert any("q" in kind for kind in named)


def test_every_stack_is_found_and_output_projections_are_not():
    layers = list_layers(on_meta("HiDreamImageTransformer2DModel", **OTHERS["HiDreamImageTransformer2DModel"]))
    assert {layer.stack for layer in layers} == {"double_stream_blocks", "single_stream_blocks"}


def test_nested_stacks_and_models_without_blocks():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.ModuleDict({part: nn.Linear(4, 4) for part in ("to_q", "to_k", "to_v")})

    inner = nn.Module()
    inner.layers = nn.ModuleList([Block(), Block()])
    outer = nn.Module()
    outer.model = inner
    assert [layer.stack for layer in list_layers(outer)] == ["model.layers"] * 6
    assert list_layers(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))) == ()


@pytest.mark.parametrize(
    ("name", "shape", "siblings", "kind"),
    [
        ("norm1.linear", (6, 1), (), "adaLN"),
        ("attn.to_qkv_mlp_proj", (9, 1), (), "fused in"),
        ("attn.to_out", (1, 5), ("attn.to_qkv_mlp_proj",), "fused out"),
        ("txt_mlp.net.0.proj", (4, 1), (), "context mlp in"),
        ("feed_forward.w2", (4, 16), (), "mlp out"),
        ("feed_forward.w3", (16, 4), (), "mlp in"),
        ("attn2.to_k", (4, 4), ("attn1.to_k",), "cross k"),
        ("attn2.to_k", (4, 4), ("attn.to_k",), "k"),
        ("skip_linear", (4, 8), (), "other"),
    ],
)
def test_kinds_from_names(name, shape, siblings, kind):
    assert classify(name, shape, siblings) == kind
