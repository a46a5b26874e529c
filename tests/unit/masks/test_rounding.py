"""Rounding to 8 and 4 bits, against loops in float64, GGUF's own code, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.rounding import round_to_nearest
from dit_prune_viz.masks.row_pieces import PIECE


def table(rows: int, columns: int, seed: int = 0, dtype=torch.bfloat16) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).mul(0.02).to(dtype)


def naive(weights: torch.Tensor, keep: torch.Tensor, bits: int, group: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Codes of the kept weights, scales, and the rounded table, one weight after another in float64."""
    d_out, d_in = weights.shape
    codes, scales, rounded = [], [], np.zeros((d_out, d_in))
    for row in range(d_out):
        line = []
        for start in range(0, d_in, group):
            own = {j: float(weights[row, j]) for j in range(start, min(start + group, d_in)) if keep[row, j]}
            largest = max(own.values(), key=abs, default=0.0)
            scale = abs(largest) / 127 if bits == 8 else largest / -8
            line.append(float(np.float16(scale)))
            for j, value in own.items():
                code = round(value / line[-1]) if line[-1] else 0  # Python rounds ties to even
                code = max(-127, min(127, code)) if bits == 8 else max(-8, min(7, code))
                codes.append(code)
                rounded[row, j] = code * line[-1]
        scales.append(line)
    return codes, np.array(scales), rounded


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("columns", "group"), [(150, 64), (128, 128), (70, None), (5, 64)])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_as_a_loop_in_float64_rounds(bits, columns, group, share):
    weights = table(19, columns)
    keep = torch.rand(19, columns, generator=torch.Generator().manual_seed(1)) < share
    keep[3] = False  # a row of which nothing is left
    weights[5] = 0
    keep = keep | (share == 1)
    found = round_to_nearest(weights, bits=bits, group=group, mask=None if share == 1 else pack(keep))
    codes, scales, rounded = naive(weights, keep, bits, group or columns)
    assert found.codes.tolist() == codes
    assert np.array_equal(found.scales.double().numpy(), scales)
    assert found.scales.dtype == torch.float16
    assert torch.equal(found.values(torch.float32), torch.from_numpy(rounded).float())
    assert torch.equal(found.values(), torch.from_numpy(rounded).to(torch.bfloat16))
    assert torch.equal(found.kept(), found.values()[keep])
    assert found.file_bytes == -(-len(codes) * bits // 8) + 2 * scales.size


def test_halves_go_to_the_even_code():
    eight = round_to_nearest(torch.tensor([[127.0, 2.5, 3.5, -126.5, -0.5]]), bits=8)
    assert eight.codes.tolist() == [127, 2, 4, -126, 0]
    four = round_to_nearest(torch.tensor([[-8.0, 7.0, 3.5, -0.5, 2.5, 7.9]]), bits=4)
    assert four.codes.tolist() == [-8, 7, 4, 0, 2, 7]  # the last is beyond the grid
    assert four.scales.tolist() == [[1.0]]
    turned = round_to_nearest(torch.tensor([[8.0, 3.0, -7.0]]), bits=4)
    assert turned.codes.tolist() == [-8, -3, 7]
    assert turned.scales.tolist() == [[-1.0]]


@pytest.mark.parametrize(("bits", "kind", "steps"), [(8, "Q8_0", 127), (4, "Q4_0", 8)])
def test_blocks_of_32_come_out_as_gguf_stores_them(bits, kind, steps):
    weights = table(12, 128, dtype=torch.float32).view(12, 4, 32)
    # GGUF looks for codes with scales before it rounds those to float16, so take scales that float16 has.
    scale = torch.tensor([0.00390625, 0.01171875, 0.0087890625, 0.0322265625]).half().float()
    weights *= 0.9 * scale[:, None] * steps / weights.abs().amax(2, keepdim=True)
    weights[:, :, 7] = scale * steps * torch.tensor([1.0, -1.0, 1.0, -1.0])
    weights = weights.reshape(12, 128)
    known = GGMLQuantizationType[kind]
    stored = quantize(weights.numpy(), known)
    found = round_to_nearest(weights, bits=bits, group=32)
    assert np.array_equal(found.values().numpy(), dequantize(stored, known))
    assert found.file_bytes == stored.nbytes


@pytest.mark.parametrize("bits", [8, 4])
def test_pieces_of_a_large_table_come_out_as_alone(bits):
    weights = table(PIECE // 512 + 100, 600, seed=2)
    keep = weights > -0.01
    whole = round_to_nearest(weights, bits=bits, group=128, mask=pack(keep))
    parts = [
        round_to_nearest(weights[rows], bits=bits, group=128, mask=pack(keep[rows]))
        for rows in (slice(0, 3), slice(3, 1501), slice(1501, None))
    ]
    assert torch.equal(whole.codes, torch.cat([part.codes for part in parts]))
    assert torch.equal(whole.scales, torch.cat([part.scales for part in parts]))
    assert torch.equal(whole.values(), torch.cat([part.values() for part in parts]))


class Largest(TorchDispatchMode):
    """The largest new tensor that takes four bytes a value or more, in values."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.is_floating_point() and one.element_size() >= 4:
                self.size = max(self.size, one.numel())
        return made


def test_no_float32_copy_of_a_whole_table():
    weights = table(4096, 1024)
    with Largest() as largest:
        rounded = round_to_nearest(weights, bits=8, group=64, mask=pack(weights.abs() > 0.01))
        rounded.values()
    assert 0 < largest.size <= PIECE


def test_scales_that_float16_lacks_stay_in_float32():
    tiny = table(4, 64, dtype=torch.float32) * 1e-8
    found = round_to_nearest(tiny, bits=8, group=32)
    assert found.scales.dtype == torch.float32
    assert float((found.values() - tiny).abs().max()) <= 0.51 * float(found.scales.max())
    huge = round_to_nearest(torch.full((1, 4), 1e9), bits=4)
    assert torch.allclose(huge.values(), torch.full((1, 4), 1e9))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_pruned_layer_runs_with_rounded_weights(bits):
    weights = table(24, 40)
    mask = pack(weights.abs() > 0.015)
    rounded = round_to_nearest(weights, bits=bits, group=16, mask=mask)
    layer = PrunedLayer(mask, rounded)
    made = layer.dense(weights)
    assert torch.equal(made, rounded.values())
    kept = torch.full((24, 40), 7.0)
    assert layer.dense(weights.float(), kept) is kept
    assert torch.equal(kept, rounded.values(torch.float32))
    assert not made[~mask.unpack()].view(torch.int16).any()  # not even a sign
    assert torch.equal(layer.values, made[mask.unpack()])
    assert layer.nbytes == mask.kept + 2 * 24 * 3 + mask.bits.nbytes
    assert layer.updated
    assert layer.to("cpu") is layer
    with pytest.raises(UserError, match="does not fit"):
        PrunedLayer(pack(torch.ones(24, 40, dtype=torch.bool)), rounded)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 5}, "4 or 8 bits"),
        ({"bits": True}, "4 or 8 bits"),
        ({"group": -1}, "group of weights"),
        ({"group": 1.5}, "group of weights"),
        ({"values": torch.ones(2, 3).fill_(float("nan"))}, "NaN"),
        ({"values": torch.ones(2, 3).fill_(float("-inf"))}, "infinite"),
        ({"values": torch.ones(2, 3, 1)}, "table"),
        ({"values": torch.ones(2, 3, dtype=torch.int64)}, "floating-point"),
        ({"mask": pack(torch.ones(3, 2, dtype=torch.bool))}, "does not fit"),
    ],
)
def test_what_cannot_be_rounded_is_refused(change, words):
    given = {"values": torch.ones(2, 3), "bits": 8, "group": 64, **change}
    with pytest.raises(UserError, match=words):
        round_to_nearest(given.pop("values"), **given)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_tables(shape):
    found = round_to_nearest(torch.zeros(shape), bits=4, group=64)
    assert found.values().shape == shape
    assert found.file_bytes == 0 or not found.codes.numel()
