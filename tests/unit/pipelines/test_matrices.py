"""Which modules are matrices, and what they do as such, against the modules themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.matrices import channels_last, matrix, matrix_shape, run_with, spread

MATRICES = {
    "linear": (lambda: nn.Linear(6, 4), (2, 3, 6)),
    "1d": (lambda: nn.Conv1d(6, 4, 1), (2, 6, 5)),
    "2d without a bias": (lambda: nn.Conv2d(6, 4, 1, bias=False), (2, 6, 3, 5)),
    "3d": (lambda: nn.Conv3d(6, 4, 1), (2, 6, 2, 3, 5)),
    "strided": (lambda: nn.Conv2d(6, 4, 1, stride=(2, 3)), (2, 6, 5, 7)),
    "dilated and padded to the same size": (lambda: nn.Conv2d(6, 4, 1, dilation=3, padding="same"), (2, 6, 5, 7)),
    "without a batch": (lambda: nn.Conv2d(6, 4, 1), (6, 5, 7)),
    "as square as it goes": (lambda: nn.Conv1d(6, 6, 1), (6, 6, 6)),
    "channels last in memory": (lambda: nn.Conv2d(6, 4, 1).to(memory_format=torch.channels_last), (2, 6, 3, 5)),
}


class Own(nn.Conv2d):
    def forward(self, inputs):
        return super().forward(inputs) * 2


OTHERS = {
    "kernel 3": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "in time only": lambda: nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
    "depthwise": lambda: nn.Conv2d(4, 4, 1, groups=4),
    "padded": lambda: nn.Conv2d(4, 4, 1, padding=1),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 1),
    "with a forward of its own": lambda: Own(4, 4, 1),
    "never called": lambda: nn.MultiheadAttention(4, 2).out_proj,
    "norm": lambda: nn.LayerNorm(4),
    "table": lambda: nn.Embedding(4, 4),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_times_its_tokens_is_what_the_module_answers(name):
    make, shape = MATRICES[name]
    torch.manual_seed(0)
    module, inputs = make(), torch.randn(shape)
    weight = matrix(module)
    assert matrix_shape(module) == tuple(weight.shape) == (module.weight.shape[0], 6)
    assert weight.data_ptr() == module.weight.data_ptr()
    tokens, answer = channels_last(module, inputs), module(inputs)
    expected = tokens @ weight.T + (0 if module.bias is None else module.bias)
    if not isinstance(module, nn.Linear):
        answer = (answer if inputs.ndim == module.weight.ndim else answer[None]).movedim(1, -1)
    torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize("name", MATRICES)
def test_another_weight_gives_the_bits_of_a_module_that_holds_it(name):
    make, shape = MATRICES[name]
    torch.manual_seed(0)
    module, inputs, keep = make(), torch.randn(shape), torch.rand(matrix_shape(make())) > 0.5
    found = run_with(module, inputs, matrix(module) * keep, module.bias)
    with torch.no_grad():
        module.weight.mul_(keep.view(module.weight.shape))
    assert torch.equal(found, module(inputs))
    mean = torch.arange(6.0)
    shifted = channels_last(module, inputs - spread(module, mean))
    torch.testing.assert_close(shifted, channels_last(module, inputs) - mean)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_matrix(name):
    assert matrix_shape(OTHERS[name]()) is None


def test_blocks_of_convolutions_alone_are_blocks():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.to_qkv, self.to_out = nn.Conv2d(8, 24, 1), nn.Conv2d(8, 8, 1)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    outer = nn.Module()
    outer.blocks = nn.ModuleList([Block(), Block()])
    layers = list_layers(outer)
    assert [layer.name for layer in layers] == [f"blocks.{i}.{part}" for i in (0, 1) for part in ("to_qkv", "to_out")]
    assert [(layer.kind, layer.shape, layer.convolution) for layer in layers[:2]] == [
        ("qkv", (24, 8), True),
        ("attn out", (8, 8), True),
    ]
