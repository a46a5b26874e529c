"""Run by test_masks.py in a process of its own: the GPU's kernels in Triton's interpreter, against a stable sort.

Prints how many selections it compared, and of those how many the kernels left to others.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from dit_prune_viz.masks import order_gpu, order_triton

PROGRAMS = 3
VALUES = {
    "normal": lambda shape, random: torch.randn(shape, generator=random),
    "few": lambda shape, random: torch.randint(-3, 4, shape, generator=random).float(),
    "some": lambda shape, random: torch.randint(-1000, 1000, shape, generator=random).float(),
    "zeros": lambda shape, random: torch.randint(-1, 1, shape, generator=random) * 0.0,  # 0 and −0
    "ordered": lambda shape, random: torch.arange(shape[0] * shape[1]).view(shape) ** 3 * 1e-9,
}


def by_kernels(rows: torch.Tensor, k: int) -> torch.Tensor | None:
    if len(rows) > 1:
        return order_gpu._of_rows(order_triton, rows, k)
    return order_gpu._of_one(order_triton, rows, k, PROGRAMS)


def sorted_out(rows: torch.Tensor, k: int) -> torch.Tensor:
    gone = torch.sort(rows, dim=1, stable=True).indices[:, :k]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, gone, False)


def main() -> None:
    random = torch.Generator().manual_seed(0)
    long = 16 * order_triton.SAMPLE
    compared = left = 0
    for name, (r, c) in itertools.product(VALUES, [(3, 256), (2, 1000), (2, 1152), (1, long), (1, 3 * long + 17)]):
        rows = VALUES[name]((r, c), random)
        for k in (1, c // 3, c - c // 7):
            kept = by_kernels(rows, k)
            assert kept is None or torch.equal(kept, sorted_out(rows, k)), (name, r, c, k)
            compared, left = compared + 1, left + (kept is None)
            assert kept is not None or (r == 1 and name in ("few", "zeros")), (name, r, c, k)
    for value, shape in itertools.product((torch.nan, torch.inf, -torch.inf), ((2, 300), (1, long))):
        rows = torch.randn(shape, generator=random)
        rows[-1, 77] = value
        assert by_kernels(rows, 5) is None, (value, shape)
    print(compared, left)


if __name__ == "__main__":
    main()
