"""One run of a transformer call, as it is or with noise: its output, and a fingerprint of every token of its layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import nn

from dit_prune_viz.calibration.batch_rows import batch_size, select_rows
from dit_prune_viz.calibration.call_masks import find_masks, noisy, tensors
from dit_prune_viz.pipelines.bits import as_integers
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.matrices import channels_last

_PLAIN = (torch.Tensor, Mapping, list, tuple, str, int, float)
_HASHED = (2, 4)
"""Bytes of a number whose bits are taken as they are."""

Places = Mapping[str, Sequence[torch.Tensor | None]]
"""Layer -> for each time that it runs, (rows, tokens) bool."""


class Extent(IntEnum):
    """Where noise is put: in text embeddings, also in zeros that blocks receive, also where masks point in these."""

    TEXT = 0
    ZEROS = 1
    BLOCKS = 2


class NoiseRun:
    """One forward: the output, and a fingerprint of every token of every layer's input.

    Args:
        transformer: runs.
        layers: of it.
        args: of the call.
        kwargs: of the call.
        extent: of noise beyond the arguments; None is the call as it is.
        places: tokens of layers' inputs that are noise as well.
    """

    def __init__(
        self,
        transformer: nn.Module,
        layers: Sequence[Layer],
        args: tuple,
        kwargs: dict,
        *,
        extent: Extent | None = None,
        places: Places | None = None,
    ) -> None:
        self.batch, self.extent, self.places = batch_size(args, kwargs), extent, places or {}
        self.reached = Extent.TEXT
        self.prints: dict[str, list[torch.Tensor]] = {}
        masks = find_masks(transformer, args, kwargs).values()
        self.masked: dict[int, torch.Tensor] = {}
        for mask in masks:
            length = mask.shape[1]
            self.masked[length] = ~mask if length not in self.masked else self.masked[length] & ~mask
        texts = {tensor.shape[1] for tensor in tensors((args, kwargs)) if tensor.ndim > 2}
        self.longer_masks = any(length > min(texts, default=length) for length in self.masked)
        with ExitStack() as stack:
            widths: dict[str, set[int]] = {}
            for layer in in_blocks(layers) if extent else ():
                widths.setdefault(block_path(layer), set()).add(layer.shape[1])
            for path, found in widths.items():
                hook = transformer.get_submodule(path).register_forward_pre_hook(self._enter(found), with_kwargs=True)
                stack.callback(hook.remove)
            modules = {layer: transformer.get_submodule(layer.name) for layer in layers}
            self.linear = {layer.name for layer, module in modules.items() if isinstance(module, nn.Linear)}
            # Experts get the same number of tokens in every run, the rest zeros: how many they are moves the last bits.
            self._tokens: dict[nn.Module, int] = {}
            self._most = _most_tokens(args, kwargs)
            for layer, module in modules.items():
                stack.callback(module.register_forward_pre_hook(self._enter_layer(layer)).remove)
                if layer.routed:
                    stack.callback(module.register_forward_hook(self._leave_routed).remove)
            call = transformer.forward(*map(_own, args), **{key: _own(value) for key, value in kwargs.items()})
            self.outputs = list(_rows(call, self.batch))

    def _enter(self, widths: set[int]):
        def disturb(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            changed = {key: self._disturb(value, widths) for key, value in kwargs.items()}
            return tuple(self._disturb(value, widths) for value in args), changed

        return disturb

    def _disturb(self, value: object, widths: set[int]) -> object:
        """A block's input (rows, tokens, width) with noise in zeros and, if the extent says so, in masked tokens."""
        tokens = isinstance(value, torch.Tensor) and value.ndim == 3 and value.is_floating_point()
        if not tokens or value.shape[2] not in widths or value.shape[0] % self.batch:
            return value
        masked = self.masked.get(value.shape[1]) if self.extent is Extent.BLOCKS else None
        if masked is not None and value.shape[0] == self.batch:
            self.reached = Extent.BLOCKS
            return noisy(self._fill_zeros(value), masked.to(value.device))
        return self._fill_zeros(value)

    def _fill_zeros(self, inputs: torch.Tensor) -> torch.Tensor:
        zero = (inputs == 0).all(-1)
        if not bool(zero.any()):
            return inputs
        self.reached = max(self.reached, Extent.ZEROS)
        return noisy(inputs, zero)

    def _enter_layer(self, layer: Layer):
        def note(module: nn.Module, args: tuple) -> tuple | None:
            prints = self.prints.setdefault(layer.name, [])
            places = self.places.get(layer.name, ())
            prints.append(self._fingerprint(channels_last(module, args[0]), layer.routed))
            where = places[len(prints) - 1] if len(prints) <= len(places) else None
            if layer.routed and args[0].ndim == 2:
                self._tokens[module] = len(args[0])
                return F.pad(args[0], (0, 0, 0, max(0, self._most - len(args[0])))), *args[1:]
            if where is None:
                return None
            alike = args[0].shape[:-1] == where.shape
            runs = args[0] if alike else args[0].reshape(*where.shape, args[0].shape[-1])
            made = noisy(runs, where.to(runs.device))
            return made if alike else made.reshape(args[0].shape), *args[1:]

        return note

    def _leave_routed(self, module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return output[: self._tokens.pop(module)] if module in self._tokens else output

    def _fingerprint(self, inputs: torch.Tensor, routed: bool) -> torch.Tensor:
        """One integer per token that changes with any bit of it, (rows, tokens) or (tokens,) on the CPU.

        What is no number differs in every run: a token that holds such and leaves the output finite is not read.
        """
        values = select_rows(inputs, range(self.batch), self.batch, routed=routed)
        return torch.stack([self._print_row(row) for row in values]) if values.ndim == 3 else self._print_row(values)

    def _print_row(self, values: torch.Tensor) -> torch.Tensor:
        values = values if values.element_size() in _HASHED else values.float()
        bits = as_integers(values + 0.0)  # adding 0 makes -0 and 0 the same
        generator = torch.Generator().manual_seed(0)
        factors = 2 * torch.randint(1 << 29, (bits.shape[-1],), generator=generator, dtype=torch.int32) + 1
        prints = bits.to(torch.int32).mul_(factors.to(bits.device)).sum(-1, dtype=torch.int64)
        return (prints + (self.extent is not None) * values.isnan().any(-1)).cpu()


def _own(value: object) -> object:
    """An argument that the forward may change, such as a cache of keys and values, copied."""
    return value if value is None or isinstance(value, _PLAIN) else copy.deepcopy(value)


def in_blocks(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that are prunable in any case: what is tried does not depend on which others were asked for."""
    return [layer for layer in layers if not layer.by_request]


def block_path(layer: Layer) -> str:
    """Path of the block that a layer stands in."""
    return f"{layer.stack}.{layer.name.removeprefix(layer.stack + '.').split('.')[0]}"


def _most_tokens(args: tuple, kwargs: dict) -> int:
    """As many tokens as all embeddings (rows, tokens, width) and latents (rows, channels, …) of a call can make."""
    found = [tensor for tensor in tensors((args, kwargs)) if tensor.ndim > 2]
    return sum(tensor.numel() // tensor.shape[-1 if tensor.ndim == 3 else 1] for tensor in found)


def _rows(value: object, batch: int) -> Iterator[tuple[int | None, torch.Tensor]]:
    """(row, output) of all that a transformer answers, a batch or a list with one for each row; None is all rows."""
    if isinstance(value, torch.Tensor):
        if value.ndim and value.shape[0] == batch:
            yield from enumerate(value)
        else:
            yield None, value
    elif isinstance(value, list) and len(value) == batch:
        yield from ((row, tensor) for row, item in enumerate(value) for tensor in tensors(item))
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _rows(item, batch)
