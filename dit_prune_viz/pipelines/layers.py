"""The prunable layers of a diffusion transformer, found by structure so that every family works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dit_prune_viz.pipelines.kinds import classify
from dit_prune_viz.pipelines.matrices import matrix_shape

_MIN_LAYERS_PER_BLOCK = 2
"""Lists of single projections (captions, output heads) are no stacks; FLUX.2's single-stream blocks have just two."""


@dataclass(frozen=True)
class Layer:
    """One prunable matrix inside the transformer's blocks: an `nn.Linear`, or a pointwise convolution (kernel 1).

    Attributes:
        name: module path inside the transformer, e.g. "transformer_blocks.0.attn.to_q".
        stack: path of the `ModuleList` it stands in, e.g. "single_transformer_blocks".
        block: index over all blocks of the model, stacks concatenated in order of definition, which is the order of
            execution in diffusers.
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


def list_layers(transformer: nn.Module) -> tuple[Layer, ...]:
    """Every matrix that may be pruned, block by block (arXiv 2607.00927, section 4: the blocks' Linear weights).

    Pointwise convolutions are Linear layers by another name and belong in; other convolutions stay dense.

    A stack is a `ModuleList` of blocks that the transformer holds directly (or inside a `ModuleDict`); if there is
    none, the outermost such lists anywhere below. Embedders stay dense, also those a family repeats in each block
    (DiT-XL/2 keeps a timestep and a label embedder in every `norm1.emb`); so do final layers, norms and biases, which
    stand outside the blocks or are no matrices.

    Args:
        transformer: the denoiser; parameters may be on the meta device, only names and shapes are read.

    Returns:
        The layers in order of block and definition; empty if no stack of blocks is found.
    """
    stacks = list(_stacks(transformer, descend=False)) or list(_stacks(transformer, descend=True))
    layers: list[Layer] = []
    block = 0
    for stack, blocks in stacks:
        for index, module in enumerate(blocks):
            shapes, experts = _matrix_shapes(module), tuple(_experts(module))
            layers += [
                Layer(
                    name=f"{stack}.{index}.{name}",
                    stack=stack,
                    block=block,
                    kind=classify(name, shape, shapes),
                    shape=shape,
                    routed=name.startswith(experts),
                    convolution=not isinstance(module.get_submodule(name), nn.Linear),
                )
                for name, shape in shapes.items()
            ]
            block += 1
    return tuple(layers)


def _stacks(module: nn.Module, *, descend: bool, prefix: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """(path, list) of every list of blocks below `module`; through any module if `descend`, else through dicts only."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList):
            if any(len(_matrix_shapes(block)) >= _MIN_LAYERS_PER_BLOCK for block in child):
                yield path, child
        elif (descend or isinstance(child, nn.ModuleDict)) and "emb" not in name:
            yield from _stacks(child, descend=descend, prefix=f"{path}.")


def _matrix_shapes(block: nn.Module) -> dict[str, tuple[int, int]]:
    """Path inside the block -> (d_out, d_in) of its prunable matrices."""
    shapes = {name: matrix_shape(module) for name, module in block.named_modules() if name and "emb" not in name}
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
