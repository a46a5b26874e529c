"""Between a table and its kept values, and masks turned on their side, against NumPy's plain indexing."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.masks.packed_mask import TILE, PackedMask, pack
from dit_prune_viz.masks.spread import gather, spread


def masks(most: int):
    sizes = st.tuples(
        st.integers(1, most), st.integers(1, most), st.integers(0, 2**31), st.sampled_from((0.02, 0.5, 1))
    )
    return sizes.map(lambda one: torch.rand(one[:2], generator=torch.Generator().manual_seed(one[2])) < one[3])


@settings(max_examples=60)
@given(masks(60), st.sampled_from((1, 2)), st.sampled_from((torch.float32, torch.bfloat16)))
def test_values_go_where_the_mask_keeps_and_come_back(keep, threads, dtype):
    table = torch.randn(keep.shape).to(dtype)
    expected = np.zeros(keep.shape, np.float32)
    expected[keep.numpy()] = table.float().numpy()[keep.numpy()]
    values = gather(pack(keep), table)
    assert np.array_equal(values.float().numpy(), table.float().numpy()[keep.numpy()])
    assert np.array_equal(spread(pack(keep), values, threads=threads).float().numpy(), expected)
    used = torch.full(keep.shape, 9.0).to(dtype)
    assert spread(pack(keep), values, out=used).data_ptr() == used.data_ptr()
    assert np.array_equal(used.float().numpy(), expected)


@pytest.mark.parametrize("shape", [(1500, 2003), (8, 300_000), (1, 70_001)])
def test_large_tables_go_piece_by_piece(shape):
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.3
    table = torch.randn(shape).to(torch.bfloat16)
    for threads in (1, 2, 5):
        values = gather(pack(keep), table)
        assert torch.equal(spread(pack(keep), values, threads=threads), table * keep)


@settings(max_examples=60)
@given(masks(50))
def test_a_mask_on_its_side_is_that_of_the_transposed_table(keep):
    turned = pack(keep).transposed()
    assert turned.shape == tuple(keep.T.shape)
    assert torch.equal(turned.bits, pack(keep.T).bits)


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (24, 64), (9, 16), (0, 8)])
def test_whole_squares_of_bits_are_turned(shape):
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    assert torch.equal(pack(keep).transposed().unpack(), keep.T)


@pytest.mark.parametrize("weights", [1, TILE, TILE + 1, 5 * TILE + 77])
def test_a_mask_knows_how_many_are_kept_before_every_tile(weights):
    keep = torch.rand(1, weights, generator=torch.Generator().manual_seed(4)) < 0.6
    expected = [int(keep[0, :start].sum()) for start in range(0, weights, TILE)]
    assert pack(keep).starts.tolist() == expected
    assert PackedMask(torch.full((TILE,), 255, dtype=torch.uint8), (8, TILE)).starts[-1] == 7 * TILE


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_the_kernel_of_a_gpu_puts_values_where_they_belong():
    probe = Path(__file__).parent / "spread_probe.py"
    done = subprocess.run([sys.executable, str(probe)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) == 96


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int8])
def test_a_gpu_makes_the_same_table(dtype):
    keep = torch.rand(300, 1001, generator=torch.Generator().manual_seed(5)) < 0.5
    values = (100 * torch.randn(int(keep.sum()))).to(dtype)
    mask = pack(keep)
    assert torch.equal(spread(mask.to("cuda"), values.cuda()).cpu(), spread(mask, values))
