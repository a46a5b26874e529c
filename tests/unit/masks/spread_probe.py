"""Run by test_spread.py in a process of its own: the GPU's kernel in Triton's interpreter, against masked_scatter.

Prints how many tables it compared.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch

sys.path.insert(0, str(Path(__file__).parents[3]))
from dit_prune_viz.masks import spread_gpu, spread_triton
from dit_prune_viz.masks.packed_mask import pack

SHAPES = [(1, 1), (3, 5), (8, 128), (7, 293), (33, 64), (5, 1024)]
DTYPES = [torch.int8, torch.bfloat16, torch.float16, torch.float32]


def main() -> None:
    random = torch.Generator().manual_seed(0)
    compared = 0
    for shape, share, dtype in itertools.product(SHAPES, (0.0, 0.3, 0.97, 1.0), DTYPES):
        keep = torch.rand(shape, generator=random) < share
        values = (100 * torch.randn(int(keep.sum()), generator=random)).to(dtype)
        found = torch.full(shape, 77).to(dtype)
        spread_gpu._launch(spread_triton, pack(keep), values, found)
        assert torch.equal(found, torch.zeros(shape, dtype=dtype).masked_scatter_(keep, values)), (shape, share, dtype)
        compared += 1
    odd = torch.tensor([torch.nan, -0.0, torch.inf, 1e-40])
    odd.view(torch.int32)[0] = -1  # a NaN with all bits set
    found = torch.empty(1, 4)
    spread_gpu._launch(spread_triton, pack(torch.ones(1, 4, dtype=torch.bool)), odd, found)
    assert torch.equal(found[0].view(torch.int32), odd.view(torch.int32))
    print(compared)


if __name__ == "__main__":
    main()
