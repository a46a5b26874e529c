"""The prunable layers of a diffusion transformer, found by structure so that every family works."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dit_prune_viz.pipelines.also_prune import matching
from dit_prune_viz.pipelines.denoisers import path_inside
from dit_prune_viz.pipelines.dense_parts import reason_of
from dit_prune_viz.pipelines.kinds import classify
from dit_prune_viz.pipelines.matrices import matrix_shape, takes_weights

_MIN_LAYERS_PER_BLOCK = 2
"""Lists of single projections (captions, output heads) are no stacks; FLUX.2's single-stream blocks have just two."""

_EMB = "emb"
"""In the path of whatever embeds."""

OUTSIDE = "outside the blocks"
"""The stack of layers that stand in none."""


@dataclass(frozen=True)
class Layer:
    """One prunable matrix of the transformer: an `nn.Linear`, or a pointwise convolution (kernel 1).

    Attributes:
        name: module path inside the transformer, e.g. "transformer_blocks.0.attn.to_q".
        stack: path of the `ModuleList` it stands in, e.g. "single_transformer_blocks"; `OUTSIDE` for none.
        block: index over all blocks of the model, stacks concatenated in order of definition, which is the order of
            execution in diffusers; outside the blocks see `list_layers`.
        kind: what it does, one of `kinds.KINDS`.
        shape: (d_out, d_in) of its weight; the parameter of a convolution has further dimensions of size 1.
        routed: whether it belongs to one of several experts, so that a router decides which tokens it sees.
        convolution: whether it is a pointwise convolution, such as those of Sana's feed-forward.
    """

    name: str
    stack: str
    block: int
    kind: str
    shape: tuple[int, int]
    routed: bool = False
    convolution: bool = False

    @property
    def weights(self) -> int:
        """How many weights the layer has, d_out · d_in."""
        return self.shape[0] * self.shape[1]

    @property
    def place(self) -> str:
        """Where it stands, for people: "block 3", or outside the blocks."""
        return OUTSIDE if self.stack == OUTSIDE else f"block {self.block}"

    @property
    def by_request(self) -> bool:
        """Whether it is prunable by request alone: it stands outside the blocks, or is an embedder inside one."""
        return self.stack == OUTSIDE or _EMB in self.name.removeprefix(f"{self.stack}.")


def list_layers(transformer: nn.Module, also_prune: Iterable[str] = ()) -> tuple[Layer, ...]:
    """Every matrix that may be pruned, block by block (arXiv 2607.00927, section 4: the blocks' Linear weights).

    Pointwise convolutions are Linear layers by another name and belong in; other convolutions stay dense.

    A stack is a `ModuleList` of blocks that the transformer holds directly (or inside a `ModuleDict`); if there is
    none, the outermost such lists anywhere below. Embedders stay dense, also those a family repeats in each block
    (DiT-XL/2 keeps a timestep and a label embedder in every `norm1.emb`); so do final layers, norms and biases, which
    stand outside the blocks or are no matrices.

    Args:
        transformer: the denoiser; parameters may be on the meta device, only names and shapes are read.
        also_prune: patterns of matrices that are to be pruned although the rule above leaves them dense, see
            `also_prune.matching`.

    Returns:
        The layers in order of block and definition; empty if no stack of blocks is found. Matrices outside the blocks
        stand in blocks of their own: before the first, numbered backwards from -1, or, final layers, after the last.

    Raises:
        UserError: a pattern matches no such matrix.
    """
    stacks = _all_stacks(transformer)
    layers = tuple(_in_blocks(stacks, frozenset()))
    if not also_prune:
        return layers
    prunable, paths = {layer.name for layer in layers}, [stack for stack, _ in stacks]
    chosen = matching(also_prune, dense_matrices(transformer, prunable), prunable, paths)
    before, after = _outside(transformer, chosen, sum(len(blocks) for _, blocks in stacks), paths)
    return (*before, *_in_blocks(stacks, chosen), *after)


def dense_matrices(transformer: nn.Module, prunable: Collection[str]) -> dict[str, tuple[int, int]]:
    """Path → (d_out, d_in) of every matrix of a transformer but the prunable ones, in order of definition."""
    never_called = {
        f"{path}.{name}".lstrip(".")
        for path, module in transformer.named_modules()
        if takes_weights(module)
        for name, _ in module.named_children()
    }
    modules = {name: module for name, module in transformer.named_modules() if name not in never_called}
    shapes = {name: matrix_shape(module) for name, module in modules.items() if name not in prunable}
    return {name: shape for name, shape in shapes.items() if name and shape is not None}


def _in_blocks(stacks: Iterable[tuple[str, nn.ModuleList]], chosen: Collection[str]) -> Iterator[Layer]:
    """The layers of the blocks; `chosen` are names of embedders that are to be among them."""
    block = 0
    for stack, blocks in stacks:
        for index, module in enumerate(blocks):
            shapes, experts = _matrix_shapes(module), tuple(_experts(module))
            for name, shape in _matrix_shapes(module, embedders=bool(chosen)).items():
                path = f"{stack}.{index}.{name}"
                if name in shapes or path in chosen:
                    yield Layer(
                        name=path,
                        stack=stack,
                        block=block,
                        kind=classify(name, shape, shapes),
                        shape=shape,
                        routed=name.startswith(experts),
                        convolution=not isinstance(module.get_submodule(name), nn.Linear),
                    )
            block += 1


def _outside(
    transformer: nn.Module, chosen: Collection[str], blocks: int, stacks: Collection[str]
) -> tuple[list[Layer], list[Layer]]:
    """Those of the chosen matrices that stand outside the `stacks`, which have so many blocks: run before and after."""
    prefixes = tuple(f"{stack}." for stack in stacks)
    # Families define modules in any order, but what a final layer is called tells that it runs last.
    sides: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    for name, _ in transformer.named_modules():
        if name in chosen and not name.startswith(prefixes):
            reason = reason_of(f"{name}.weight", 2, False)
            sides[reason == "final layers"].append((name, reason))
    layers: dict[bool, list[Layer]] = {}
    for last, named in sides.items():
        groups = [list(group) for _, group in itertools.groupby(named, key=lambda pair: _place(pair[0]))]
        first = blocks if last else -len(groups)
        layers[last] = [
            Layer(
                name=name,
                stack=OUTSIDE,
                block=first + index,
                kind=_kind_outside(name, shape, reason),
                shape=shape,
                convolution=not isinstance(module, nn.Linear),
            )
            for index, group in enumerate(groups)
            for name, reason in group
            for module in [transformer.get_submodule(name)]
            for shape in [matrix_shape(module)]
        ]
    return layers[False], layers[True]


def _kind_outside(name: str, shape: tuple[int, int], reason: str) -> str:
    kind = "adaLN" if reason == "modulation" else classify(path_inside(name), shape)
    return "other" if kind == "adaLN" and reason == "embedders" else kind


def _place(name: str) -> str:
    """What stands for a block outside the blocks: one entry of a list, or all of the transformer's child."""
    inside = path_inside(name)
    found = re.match(r".*?\.\d+(?=\.|$)", inside)
    return name.removesuffix(inside) + (found[0] if found else inside.partition(".")[0])


def _all_stacks(transformer: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    return list(_stacks(transformer, descend=False)) or list(_stacks(transformer, descend=True))


def _stacks(module: nn.Module, *, descend: bool, prefix: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """(path, list) of every list of blocks below `module`; through any module if `descend`, else through dicts only."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList):
            if any(len(_matrix_shapes(block)) >= _MIN_LAYERS_PER_BLOCK for block in child):
                yield path, child
        elif (descend or isinstance(child, nn.ModuleDict)) and _EMB not in name:
            yield from _stacks(child, descend=descend, prefix=f"{path}.")


def _matrix_shapes(block: nn.Module, *, embedders: bool = False) -> dict[str, tuple[int, int]]:
    """Path inside the block -> (d_out, d_in) of its prunable matrices, or of its `embedders` as well."""
    modules = ((name, module) for name, module in block.named_modules() if name and (embedders or _EMB not in name))
    shapes = {name: matrix_shape(module) for name, module in modules}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _experts(block: nn.Module) -> Iterator[str]:
    """Path inside the block, with a dot at its end, of every list of routed experts.

    Such a list holds modules of one kind with Linears in them, and is called so, or has a router beside it: a module
    that gives one number for each of them.
    """
    for path, module in block.named_modules():
        for name, child in module.named_children():
            if not isinstance(child, nn.ModuleList) or len(child) < 2 or len({type(one) for one in child}) > 1:
                continue
            if not any(isinstance(part, nn.Linear) for part in child[0].modules()):
                continue
            weights = (getattr(beside, "weight", None) for beside in module.children() if beside is not child)
            router = any(isinstance(one, torch.Tensor) and one.ndim == 2 and len(one) == len(child) for one in weights)
            if router or "expert" in name:
                yield f"{path}.{name}.".lstrip(".")
