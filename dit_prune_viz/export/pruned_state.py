"""The tensors that a transformer runs with when it is pruned: made one at a time, wherever the dense ones rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.pipeline_files import names_inside, transformers_of
from dit_prune_viz.export.weight_file import HALVES, fits
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.bits import as_integers
from dit_prune_viz.pipelines.plain_weights import check_adapters
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pruning.pruned_model import PrunedModel


class PrunedState(Mapping[str, Tensor]):
    """A transformer's state dict as it is when it runs pruned.

    A tensor is made whenever it is asked for and not kept, so that no second copy of a model is in memory. It lies on
    the CPU. The dense weights are only read.

    Args:
        pruned: the model.
        part: name of one of its transformers in the pipeline.
    """

    def __init__(self, pruned: PrunedModel, part: str) -> None:
        self.transformer: nn.Module = transformers_of(pruned.model.pipeline)[part]
        check_adapters(self.transformer, pruned.model.name)
        self._pruned, self._part = pruned, part
        self._resting = Resting(self.transformer)
        # A module may stand at two places, of which pruning knows the first.
        paths = names_inside(pruned.model.pipeline, part, pruned.layers)
        self._names = {self.transformer.get_submodule(path): name for path, name in paths.items()}
        self._blank = {name: tensor.detach().to("meta") for name, tensor in self.transformer.state_dict().items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._blank)

    def __len__(self) -> int:
        return len(self._blank)

    @property
    def blank(self) -> Mapping[str, Tensor]:
        """Name → a tensor of the same shape and precision that holds nothing."""
        return dict(self._blank)

    def __getitem__(self, name: str) -> Tensor:
        last = name.rpartition(".")[2]
        layer = self._layer(name)
        if layer is not None and last == "weight":
            return self._weight(name, layer.to("cpu"))
        if layer is not None and last == "bias" and layer.bias is not None:
            return layer.bias.to("cpu", self._blank[name].dtype)
        return self._resting(name).to("cpu").contiguous()

    def _weight(self, name: str, layer: PrunedLayer) -> Tensor:
        blank = self._blank[name]
        if layer.values is not None:
            return layer.dense(torch.empty(layer.mask.shape, dtype=blank.dtype)).view(blank.shape)
        weight = self._resting(name).to("cpu").reshape(layer.mask.shape)
        # A product of numbers would leave zeros with a sign, and whole ones take half the time.
        return torch.mul(as_integers(weight), layer.mask.unpack()).view(weight.dtype).view(blank.shape)

    def _layer(self, name: str) -> PrunedLayer | None:
        path, _, last = name.rpartition(".")
        return self._layer_of(self.transformer.get_submodule(path)) if last in ("weight", "bias") else None

    def _layer_of(self, module: nn.Module) -> PrunedLayer | None:
        name = self._names.get(module)
        return None if name is None else self._pruned.layers[name]

    def check_shared(self) -> None:
        """Refuse a model in which two layers share a weight and are pruned differently: diffusers would load one of
        them for both.

        Raises:
            UserError: that.
        """
        first: dict[nn.Parameter, tuple[str, PrunedLayer | None]] = {}
        for path, module in self.transformer.named_modules():
            weight = getattr(module, "_parameters", {}).get("weight")
            if weight is None:
                continue
            layer = self._layer_of(module)
            known = first.setdefault(weight, (path, layer))
            if not _same(known[1], layer):
                raise UserError(
                    f"{known[0]} and {path} share their weights but are pruned differently, which no file of diffusers "
                    "can hold; pack the model instead."
                )

    @property
    def exact_in(self) -> torch.dtype | None:
        """The half precision that holds a float32 model exactly, as it does what was loaded from half the bytes; None
        where there is none, or the model is not in float32."""
        floats = [name for name, blank in self._blank.items() if blank.is_floating_point()]
        if not floats or any(self._blank[name].dtype != torch.float32 for name in floats):
            return None
        # Masks that wait to be made have no values.
        made, cache = self._pruned.layers.made, self._pruned.model.cache
        layers = [made[name] for name in self._names.values() if name in made]
        moved = [part for one in layers for part in (one.values, one.bias) if part is not None]
        for dtype in cache.get(("exact in", self._part), lambda: self._dense_exact_in(floats)):
            if all(fits(part.float(), dtype) for part in moved):
                return dtype
        return None

    def _dense_exact_in(self, names: list[str]) -> tuple[torch.dtype, ...]:
        left = HALVES
        for name in names:
            tensor = self._resting(name)
            left = tuple(dtype for dtype in left if fits(tensor, dtype))
            if not left:
                break
        return left

    def stored(self, dtype: torch.dtype | None) -> Mapping[str, Tensor]:
        """Name → a tensor that holds nothing, of the shape and precision in which `as_stored` gives the values."""
        return {name: blank.to(dtype) if _narrows(blank, dtype) else blank for name, blank in self._blank.items()}

    def as_stored(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """A tensor in a half precision that holds it exactly; as it is where that is None."""
        tensor = self[name]
        return tensor.to(dtype) if _narrows(tensor, dtype) else tensor


def _narrows(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is not None and tensor.dtype == torch.float32


def _same(one: PrunedLayer | None, other: PrunedLayer | None) -> bool:
    if one is other:
        return True
    if one is None or other is None or one.mask.digest != other.mask.digest:
        return False
    if one.values is None or other.values is None:
        return one.values is other.values
    return torch.equal(one.values, other.values)
