"""Which tokens a transformer never reads: the padding of prompts, wherever attention masks it.

Statistics are of what the model reads, so such tokens must not count. Which they are is not derived from names and
shapes, as families join, cut, reorder and refill their tokens in ways of their own, but tried: where a call has masks,
it runs once as it is and once with noise in place of what seems to be padding. A token of a layer's input is unread
where it differs between the two although the output of its row of the batch is the same in every bit: whatever it
holds, the model answers the same. That holds alike for cross-attention, joint and single streams and refiners, and
tells text from picture where there is as much of both.

What seems to be padding is what the call's masks say (`call_masks`), of the text embeddings and of the inputs of blocks
that have as many tokens as a mask; and whatever is all zeros where a block or a layer receives it, which is how
families pad inside (Lumina 2, Z-Image) and what attention returns for masked queries (Mochi). Noise in a token that is
read after all shows in the output; then less is tried, in the end nothing but the text embeddings. Where these change
the output as well, all tokens of that row count: a learned embedding in place of padding is read, and so is padding
under a mask that only weakens it (Chroma, CogView 4).

This costs two forwards, at most seven, for every combination of masks and shapes, and nothing for models without
masks, such as FLUX. All tokens count, as ever, where padding cannot be told: constants other than zero that a family
fills in and masks all on its own. Padding that nothing masks is read, and counts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import nn

from dit_prune_viz.calibration.batch_rows import batch_size, select_rows
from dit_prune_viz.calibration.call_masks import find_masks, mask_pattern, noisy, tensors, with_noise
from dit_prune_viz.pipelines.layers import Layer

_PLAIN = (torch.Tensor, Mapping, list, tuple, str, int, float)
_INTEGERS = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True, eq=False)
class Unread:
    """The tokens of one transformer call that it never reads.

    Attributes:
        tokens: layer -> for each time that it runs in the call, (rows, tokens) bool on the CPU, True is unread, in the
            order of `select_rows`; (tokens,) where the rows are unknown; None where all are read.
    """

    tokens: Mapping[str, tuple[torch.Tensor | None, ...]]

    def of(self, layer: str, time: int) -> torch.Tensor | None:
        """Of a layer's run number `time` in the call; None where all are read."""
        found = self.tokens.get(layer, ())
        return found[time] if time < len(found) else None


class UnreadTokens:
    """The unread tokens of a transformer's calls, each combination of masks and shapes tried once.

    A router sends tokens to its experts anew in every call, so of a model with experts every call is tried.

    Args:
        transformer: in eval mode. It should be dense: whatever pruning has cut off is read by nothing.
        layers: prunable layers of it.
    """

    def __init__(self, transformer: nn.Module, layers: Sequence[Layer]) -> None:
        self._transformer, self._layers = transformer, layers
        self._routed = any(layer.routed for layer in layers)
        self._known: dict[tuple, Unread | None] = {}

    def of(self, args: tuple, kwargs: dict) -> Unread | None:
        """Those of a call; None where all tokens of all layers are read. Grad mode and autocast are the caller's.

        The transformer's own hooks do not run, those of its layers do.
        """
        pattern = mask_pattern(self._transformer, args, kwargs)
        if pattern is None:
            return None
        if self._routed or pattern not in self._known:
            self._known[pattern] = find_unread(self._transformer, self._layers, args, kwargs)
        return self._known[pattern]


def find_unread(transformer: nn.Module, layers: Sequence[Layer], args: tuple, kwargs: dict) -> Unread | None:
    """The unread tokens of a call that has masks, see `UnreadTokens`."""
    base = _Run(transformer, layers, args, kwargs)
    unread = _Differences(base)
    tried = {}
    for extent in sorted(_Extent, reverse=True):
        for at_end in (False, True) if base.longer_masks else (False,):
            if extent >= tried.get(at_end, extent + 1):
                continue  # a wider one reached no further
            noise = with_noise(transformer, args, kwargs, at_end)
            run = _Run(transformer, layers, *(noise or (args, kwargs)), extent=extent)
            tried[at_end] = run.reached
            unread.add(run)
            if not unread.left:
                return unread.found()
    return unread.found()


class _Extent(IntEnum):
    """Where noise is put: in text embeddings, also in zeros, also where masks point in the inputs of blocks."""

    TEXT = 0
    ZEROS = 1
    BLOCKS = 2


class _Run:
    """One forward: the output, and a fingerprint of every token of every layer's input."""

    def __init__(
        self, transformer: nn.Module, layers: Sequence[Layer], args: tuple, kwargs: dict, extent: _Extent | None = None
    ) -> None:
        self.batch, self.extent = batch_size(args, kwargs), extent
        self.reached = _Extent.TEXT
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
            for layer in layers if extent else ():
                widths.setdefault(_block(layer), set()).add(layer.shape[1])
            for path, found in widths.items():
                hook = transformer.get_submodule(path).register_forward_pre_hook(self._enter(found), with_kwargs=True)
                stack.callback(hook.remove)
            for layer in layers:
                hook = transformer.get_submodule(layer.name).register_forward_pre_hook(self._enter_layer(layer))
                stack.callback(hook.remove)
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
        masked = self.masked.get(value.shape[1]) if self.extent is _Extent.BLOCKS else None
        if masked is not None and value.shape[0] == self.batch:
            self.reached = _Extent.BLOCKS
            return noisy(self._fill_zeros(value), masked.to(value.device))
        return self._fill_zeros(value)

    def _fill_zeros(self, inputs: torch.Tensor) -> torch.Tensor:
        zero = (inputs == 0).all(-1)
        if not bool(zero.any()):
            return inputs
        self.reached = max(self.reached, _Extent.ZEROS)
        return noisy(inputs, zero)

    def _enter_layer(self, layer: Layer):
        def note(module: nn.Module, args: tuple) -> tuple | None:
            inputs = args[0]
            if self.extent and inputs.ndim == 3 and not layer.routed:
                inputs = self._fill_zeros(inputs)
            self.prints.setdefault(layer.name, []).append(self._fingerprint(inputs, layer.routed))
            return None if inputs is args[0] else (inputs, *args[1:])

        return note

    def _fingerprint(self, inputs: torch.Tensor, routed: bool) -> torch.Tensor:
        """One integer per token that changes with any bit of it, (rows, tokens) or (tokens,) on the CPU.

        What is no number differs in every run: a token that holds such and leaves the output finite is not read.
        """
        values = select_rows(inputs, range(self.batch), self.batch, routed=routed)
        return torch.stack([self._print_row(row) for row in values]) if values.ndim == 3 else self._print_row(values)

    def _print_row(self, values: torch.Tensor) -> torch.Tensor:
        values = values if values.element_size() in _INTEGERS else values.float()
        bits = (values + 0.0).view(_INTEGERS[values.element_size()])  # adding 0 makes -0 and 0 the same
        generator = torch.Generator().manual_seed(0)
        factors = 2 * torch.randint(1 << 29, (bits.shape[-1],), generator=generator, dtype=torch.int32) + 1
        prints = bits.to(torch.int32).mul_(factors.to(bits.device)).sum(-1, dtype=torch.int64)
        return (prints + (self.extent is not None) * values.isnan().any(-1)).cpu()


class _Differences:
    """What the runs with noise have shown; each row goes by the first of them that left its output alone."""

    def __init__(self, base: _Run) -> None:
        self._base = base
        self._left = torch.ones(base.batch, dtype=torch.bool)
        self._found: dict[str, list[torch.Tensor | None]] = {}
        self._known: dict[tuple, torch.Tensor] = {}  # many layers have the same tokens: kept once

    @property
    def left(self) -> bool:
        """Whether the output of some row has changed every time."""
        return bool(self._left.any())

    def add(self, run: _Run) -> None:
        """The next run, with less noise than those before."""
        same = self._same_rows(run) & self._left
        if not bool(same.any()):
            return
        for name, prints in self._base.prints.items():
            others = run.prints.get(name, [])
            found = self._found.setdefault(name, [None] * len(prints))
            for time, first in enumerate(prints):
                if first.ndim == 1:
                    differs = self._gone(first, others) if bool(same.all()) else torch.zeros_like(first, dtype=bool)
                elif len(prints) == len(others) and first.shape == others[time].shape:
                    differs = (first != others[time]) & same[:, None]
                else:
                    continue
                found[time] = differs if found[time] is None else found[time] | differs
        self._left &= ~same

    def found(self) -> Unread | None:
        """The unread tokens; None if all are read."""
        tokens = {name: tuple(map(self._shared, found)) for name, found in self._found.items()}
        tokens = {name: found for name, found in tokens.items() if any(one is not None for one in found)}
        return Unread(tokens) if tokens else None

    @staticmethod
    def _gone(first: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tokens of unknown rows, in any order, that the other run has not."""
        return ~torch.isin(first, torch.cat([first[:0], *(other.flatten() for other in others)]))

    def _shared(self, found: torch.Tensor | None) -> torch.Tensor | None:
        if found is None or not bool(found.any()):
            return None
        return self._known.setdefault((tuple(found.shape), found.numpy().tobytes()), found)

    def _same_rows(self, run: _Run) -> torch.Tensor:
        """(rows,) bool: whose outputs are the same in every bit, and not zero whatever goes in.

        Where the output has as many tokens as a mask, those that it masks are nobody's.
        """
        batch = self._base.batch
        same, alive = torch.ones(batch, dtype=torch.bool), torch.zeros(batch, dtype=torch.bool)
        if len(self._base.outputs) != len(run.outputs):
            return alive
        for (row, first), (_, second) in zip(self._base.outputs, run.outputs, strict=True):
            if first.shape != second.shape:
                return torch.zeros_like(same)
            masked = self._base.masked.get(first.shape[0]) if row is not None and first.ndim == 2 else None
            if masked is not None:
                read = ~masked[row].to(first.device)
                first, second = first[read], second[read]
            at = slice(None) if row is None else row
            same[at] &= torch.equal(first, second)
            alive[at] |= bool(first.any())
        return same & alive


def _own(value: object) -> object:
    """An argument that the forward may change, such as a cache of keys and values, copied."""
    return value if value is None or isinstance(value, _PLAIN) else copy.deepcopy(value)


def _block(layer: Layer) -> str:
    """Path of the block that a layer stands in."""
    return f"{layer.stack}.{layer.name.removeprefix(layer.stack + '.').split('.')[0]}"


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
