"""A model that runs pruned for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.scratch import Scratch
from dit_prune_viz.memory import give_back
from dit_prune_viz.pipelines.denoisers import denoiser_of
from dit_prune_viz.pipelines.matrices import matrix, matrix_shape, run_with
from dit_prune_viz.pipelines.plain_weights import check_adapters, check_layer
from dit_prune_viz.pipelines.resting import inner_forwards, plain_forward, put_forward


@contextmanager
def running_pruned(model: object, layers: Mapping[str, PrunedLayer], *, cache_bytes: int = 256 << 20) -> Iterator[None]:
    """Run the model with pruned layers in the place of its own; on leaving, it is the dense model again.

    The dense Parameters are only read: each named layer gets a forward of its own, and loses it on exit, whatever
    happened inside. Weights are made anew in every forward, one layer at a time; where all of them fit into
    `cache_bytes`, and no gradients are asked for, they are kept while the block lasts, so that a small model runs as
    fast as the dense one.

    The layers act on the transformer, so every thread that runs it while the block is open sees the pruned model. Let
    one thread at a time use a transformer.

    Args:
        model: a transformer, or anything that has one as `.transformer`: a diffusers pipeline, a `Model`.
        layers: module path inside the transformer → pruned layer.
        cache_bytes: see above.

    Raises:
        UserError: before anything has changed, for an unknown layer, a layer that is no plain matrix, a mask of another
            shape, a model without a transformer, quantised layers, LoRA adapters, and a transformer that runs pruned
            already.
    """
    transformer = _find_transformer(model)
    modules = {name: _find_module(transformer, name, layer.mask) for name, layer in layers.items()}
    # Of a large model little would be kept, which saves no time worth the memory.
    fits = sum(module.weight.nbytes for module in modules.values()) <= cache_bytes
    budget = _Budget(cache_bytes if fits else 0)
    if not fits:
        give_back()  # what making the masks has left behind would lie beside the run
    with ExitStack() as undo:
        for name, module in modules.items():
            undo.callback(put_forward(module, _PrunedForward(module, layers[name], budget)))
        yield


class _Budget:
    """Bytes of pruned weights that may still be kept, and memory for those that are not."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._scratch = Scratch()

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def table(self, like: Tensor) -> Tensor | None:
        """Memory for a weight until the next one is made; None where the device has an allocator of its own."""
        return self._scratch.table(like.shape, like.dtype, like.device) if like.device.type == "cpu" else None


class _PrunedForward:
    """The forward of one layer with a pruned layer's weights, which are made when needed or kept."""

    def __init__(self, module: nn.Module, layer: PrunedLayer, budget: _Budget) -> None:
        self._module, self._layer, self._budget = module, layer, budget
        self._kept: Tensor | None = None
        self._kept_state: tuple | None = None

    def __call__(self, input: Tensor) -> Tensor:
        weight, bias = self._module.weight, self._layer.bias
        own = self._module.bias if bias is None else bias.to(weight.device, weight.dtype)
        return run_with(self._module, input, self._weight(), own)

    def _weight(self) -> Tensor:
        weight = matrix(self._module)
        keep = not torch.is_grad_enabled()
        # Offloading may move or replace the weight between two calls, and a person may train it.
        version = None if weight.is_inference() else weight._version
        state = (weight.data_ptr(), weight.device, weight.dtype, version)
        if keep and state == self._kept_state:
            return self._kept
        self._layer = self._layer.to(weight.device)
        stays = keep and (self._kept is not None or self._budget.take(weight.nbytes))
        product = self._layer.dense(weight, self._budget.table(weight) if keep and not stays else None)
        if stays:
            self._kept, self._kept_state = product, state
        return product


def _find_transformer(model: object) -> nn.Module:
    transformer = model if isinstance(model, nn.Module) else denoiser_of(model)
    if not isinstance(transformer, nn.Module):
        raise UserError(f"{type(model).__name__} has no transformer to prune; load a pipeline with a transformer.")
    if any(isinstance(one, _PrunedForward) for module in transformer.modules() for one in inner_forwards(module)):
        raise UserError("The model is running pruned already; wait until that run has ended, then start the next.")
    check_adapters(transformer, "this model")
    return transformer


def _find_module(transformer: nn.Module, name: str, mask: PackedMask) -> nn.Module:
    try:
        module = transformer.get_submodule(name) if name else None
    except AttributeError:
        module = None
    if module is None:
        raise UserError(f"The model has no layer called '{name}'; prune the model that is loaded.")
    check_layer(module, "this model")
    shape = matrix_shape(module)
    if shape is None or not plain_forward(module):
        raise UserError(f"Layer {name} is not a plain Linear or pointwise convolution (compiled?), so no mask fits it.")
    if shape != tuple(mask.shape):
        raise UserError(
            f"The mask of layer {name} has shape {tuple(mask.shape)}, its weight {shape}; "
            "prune the model that is loaded."
        )
    return module
