"""Run by test_masks.py in a process of its own: the GPU's kernels in Triton's interpreter, against a stable sort.

Prints how many selections it compared.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch

sys.path.insert(0, str(Path(__file__).parents[3]))
from triton.runtime import interpreter

from dit_prune_viz.masks import smallest_gpu as order_gpu
from dit_prune_viz.masks import smallest_triton as order_triton

PROGRAMS = 3
VALUES = {
    "normal": lambda shape, random: torch.randn(shape, generator=random),
    "few": lambda shape, random: torch.randint(-3, 4, shape, generator=random).float(),
    "some": lambda shape, random: torch.randint(-1000, 1000, shape, generator=random).float(),
    "zeros": lambda shape, random: torch.randint(-1, 1, shape, generator=random) * 0.0,  # 0 and −0
    "tiny": lambda shape, random: (
        torch.randint(-9, 9, shape, generator=random, dtype=torch.int32).abs().view(torch.float32)
    ),
    "ordered": lambda shape, random: torch.arange(shape[0] * shape[1]).view(shape) ** 3 * 1e-9,
}
SHAPES = [(32, 256), (33, 1000), (32, 1152), (1, 256), (1, 4112), (1, 131072), (1, 393232)]


def patch_once_a_launch() -> None:
    """Triton's interpreter patches its language anew for every function that a kernel calls, a third of all its time:
    let it do so once for each of the modules that they are from."""
    patched: set[int] = set()
    launch = interpreter.GridExecutor.__call__

    def launched(self, *args, **kwargs):
        patched.clear()
        return launch(self, *args, **kwargs)

    def called(self, *args, **kwargs):
        if id(self.fn.__globals__) not in patched:
            interpreter._patch_lang(self.fn)
            patched.add(id(self.fn.__globals__))
        return self.rewrite()(*args, **kwargs)

    interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__ = launched, called


def by_kernels(tables: list[torch.Tensor], counts: list[int]) -> list[torch.Tensor | None]:
    return order_gpu._keep(order_triton, tables, counts, PROGRAMS)


def sorted_out(rows: torch.Tensor, k: int) -> torch.Tensor:
    gone = torch.sort(rows, dim=1, stable=True).indices[:, :k]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, gone, False)


def main() -> None:
    patch_once_a_launch()
    random = torch.Generator().manual_seed(0)
    compared = 0
    for name, share in itertools.product(VALUES, (0.0, 0.4, 1.0)):
        tables = [VALUES[name](shape, random) for shape in SHAPES]
        counts = [min(max(1, int(table.shape[1] * share)), table.shape[1] - 1) for table in tables]
        for table, k, kept in zip(tables, counts, by_kernels(tables, counts), strict=True):
            what = name, tuple(table.shape), k
            assert kept is not None, what
            assert torch.equal(kept, sorted_out(table, k)), what
            compared += 1
    for bits in (0x7F800000, -0x800000, 0x7FC00000, 0x7FFFFFFF, -1):  # infinities and NaN
        spoilt = [torch.randn(shape, generator=random) for shape in ((32, 300), (1, 4096))]
        for table in spoilt:
            table.view(torch.int32)[-1, 77] = bits
        good = torch.randn((1, 4096), generator=random)
        kept = by_kernels([spoilt[0], good, spoilt[1], good.half()], [5] * 4)
        assert [mask is None for mask in kept] == [True, False, True, True], bits
        assert torch.equal(kept[1], sorted_out(good, 5))
    print(compared)


if __name__ == "__main__":
    main()
