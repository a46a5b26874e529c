"""Table 1 of arXiv 2607.00927: parameters that remain in DiT-XL/2. Shapes decide, so no trained weights are needed."""

from __future__ import annotations

import pytest
import torch
from diffusers import DiTTransformer2DModel

from dit_prune_viz.masks.counts import removed
from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pruning.counts import remaining_parameters

TABLE_1 = {
    "magnitude": {0.2: 541.35, 0.4: 407.58, 0.5: 340.69},
    "wanda": {0.2: 541.55, 0.4: 407.94, 0.5: 340.69},
    "dit-pruning": {0.2: 541.43, 0.4: 407.73, 0.5: 340.69},
}
"""Millions of parameters that remain, by method and sparsity."""


@pytest.fixture(scope="module")
def dit_xl_2() -> DiTTransformer2DModel:
    with torch.device("meta"):
        return DiTTransformer2DModel(
            num_attention_heads=16,
            attention_head_dim=72,
            in_channels=4,
            out_channels=8,
            num_layers=28,
            patch_size=2,
            sample_size=32,
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_zero",
            activation_fn="gelu-approximate",
            attention_bias=True,
            norm_elementwise_affine=False,
        )


@pytest.fixture(scope="module")
def layers(dit_xl_2):
    return list_layers(dit_xl_2)


@pytest.fixture(scope="module")
def parameters(dit_xl_2) -> int:
    """Counted as the paper does: one timestep and label embedder (diffusers has one per block), the position table."""
    tensors = [*dit_xl_2.named_parameters(), *dit_xl_2.named_buffers()]
    repeated = [name for name, _ in tensors if ".norm1.emb." in name and not name.startswith("transformer_blocks.0.")]
    return sum(tensor.numel() for name, tensor in tensors if name not in repeated)


def test_the_model_is_the_papers(dit_xl_2, layers, parameters):
    assert sum(parameter.numel() for parameter in dit_xl_2.parameters()) / 1e6 == pytest.approx(749.83, abs=0.005)
    assert parameters / 1e6 == pytest.approx(675.13, abs=0.005)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(668.86, abs=0.005)
    assert len(layers) == 28 * 7  # adaLN, q, k, v, attention out, MLP in, MLP out


@pytest.mark.parametrize("method", TABLE_1)
@pytest.mark.parametrize("sparsity", [0.2, 0.4, 0.5])
def test_remaining_parameters_are_those_of_table_1(method, sparsity, layers, parameters):
    shapes = {layer.name: layer.shape for layer in layers}
    granularity = {
        "magnitude": dict.fromkeys(shapes, "layer"),
        "wanda": dict.fromkeys(shapes, "row"),
        "dit-pruning": {layer.name: "row" if layer.kind == "adaLN" else "layer" for layer in layers},
    }[method]
    remaining = remaining_parameters(shapes, granularity, sparsity, parameters)
    assert remaining / 1e6 == pytest.approx(TABLE_1[method][sparsity], abs=0.02)


def test_fused_or_separate_projections_give_the_same_counts(layers):
    # The paper's DiT has one qkv layer, diffusers' three; per layer that is at most two weights of floor() per block.
    assert {layer.shape for layer in layers if layer.kind in ("q", "k", "v")} == {(1152, 1152)}
    for sparsity in (0.2, 0.4, 0.5):
        assert 0 <= removed(3 * 1152 * 1152, sparsity) - 3 * removed(1152 * 1152, sparsity) <= 2
