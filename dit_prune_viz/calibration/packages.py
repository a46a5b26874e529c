"""Layers in packages whose Hessians fit into a given memory, and what that memory is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layers import Layer

_FLOAT = 4


def package_layers(
    layers: Iterable[Layer], package_bytes: int, *, sequential: bool = False
) -> tuple[tuple[Layer, ...], ...]:
    """The layers in their order, in packages whose Hessians take at most `package_bytes`; at least one in each.

    A Hessian is float32, 4·d_in² bytes, and each layer is counted with one of its own, although q, k and v share
    theirs. With `sequential` no package reaches over two blocks, so that each block sees all earlier ones pruned.

    Raises:
        UserError: `package_bytes` is no positive number.
    """
    number = isinstance(package_bytes, int | float) and not isinstance(package_bytes, bool)
    if not number or not package_bytes > 0:
        raise UserError(f"The memory for a package of layers must be above 0 bytes, not {brief(package_bytes)}.")
    packages: list[list[Layer]] = []
    used = 0
    for layer in layers:
        size = _FLOAT * layer.shape[1] ** 2
        full = not packages or used + size > package_bytes
        if full or (sequential and packages[-1][-1].block != layer.block):
            packages.append([])
            used = 0
        packages[-1].append(layer)
        used += size
    return tuple(map(tuple, packages))


def peak_bytes(packages: Sequence[Sequence[Layer]], inputs_bytes: int = 0) -> int:
    """Most memory an update takes beside the model and its forward pass: the Hessians of the largest package, for one
    layer at a time 7 matrices (d_out, d_in) and 4 (d_in, d_in), twice as large for one that float32 cannot factor, and
    the recorded inputs (`RecordedInputs.nbytes`). Results come on top: at most one value a weight.
    """
    hessians = max((sum(_FLOAT * layer.shape[1] ** 2 for layer in package) for package in packages), default=0)
    solving = max(
        (_FLOAT * (7 * layer.weights + 8 * layer.shape[1] ** 2) for package in packages for layer in package), default=0
    )
    return hessians + solving + inputs_bytes
