"""Which tokens a transformer never reads: the padding of prompts, wherever attention masks it.

Statistics are of what the model reads, so such tokens must not count. Which they are is not derived from names and
shapes, as families join, cut and reorder their tokens in ways of their own, but tried: where a call has masks, it runs
once as it is and once with noise in place of the masked embeddings. A token of a layer's input is unread where it
differs between the two although the output of its row of the batch is the same in every bit: whatever it holds, the
model answers the same. That holds alike for cross-attention, for joint and single streams and for refiners, tells text
from image where there is as much of both, and costs two forwards per mask. Where padding does change the output (a
learned embedding that replaces it is no padding, and neither is a mask that only weakens it), all tokens of that row
count.

A mask is an argument of the transformer's forward with "mask" in its name and one row per row of the batch, be it
boolean, 0 and 1, or an additive bias; models without one, such as FLUX, are left alone. Not covered, all tokens count
as ever: routed experts, whose tokens cannot be followed; masks that hide inside dictionaries, and lengths instead of
masks; text in lists of prompts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from dit_prune_viz.calibration.batch_rows import batch_size, select_rows
from dit_prune_viz.pipelines.layers import Layer

_INTEGERS = {2: torch.int16, 4: torch.int32}
_LATENTS = "hidden_states"


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


def has_masks(transformer: nn.Module) -> bool:
    """Whether calls of this transformer can have masks."""
    return any("mask" in name for name in inspect.signature(transformer.forward).parameters)


def mask_pattern(transformer: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
    """What the unread tokens of a call depend on: its masks and the shapes of its arguments. None if nothing is masked.

    Which tokens those are can be kept under it, for the same model.
    """
    masks = _masks(transformer, args, kwargs)
    if all(bool(mask.all()) for mask in masks.values()):
        return None
    shapes = tuple(
        (name, tuple(tensor.shape))
        for name, value in _named(transformer, args, kwargs).items()
        for tensor in _tensors(value)
    )
    return shapes, tuple((name, mask.cpu().numpy().tobytes()) for name, mask in masks.items())


def find_unread(transformer: nn.Module, layers: Sequence[Layer], args: tuple, kwargs: dict) -> Unread | None:
    """The unread tokens of a call, found by running it twice or, if its masks span more than the text, three times.

    The transformer's own hooks do not run. Grad mode and autocast are the caller's. The model should be dense: whatever
    pruning has cut off is read by nothing.

    Args:
        transformer: in eval mode.
        layers: prunable layers of it.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.

    Returns:
        None where all tokens of all layers are read.
    """
    base = None
    for other_args, other_kwargs in _with_noise(transformer, args, kwargs):
        base = base or _Run(transformer, layers, args, kwargs, 0)
        other = _Run(transformer, layers, other_args, other_kwargs, 1)
        unread = _compare(base, other)
        if unread is not None:
            return unread
    return None


def watched_tokens(
    inputs: torch.Tensor, rows: Sequence[int], batch: int, *, routed: bool, unread: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The watched rows of a layer's input, with unread tokens as zeros.

    Args:
        inputs: as in `select_rows`.
        rows: the watched ones.
        batch: rows of the transformer call.
        routed: whether the layer belongs to an expert.
        unread: of this input, see `Unread`.

    Returns:
        What `select_rows` returns, and which of its tokens are read, (watched rows, tokens) or (tokens,) bool on the
        CPU; None where all are.
    """
    values = select_rows(inputs, rows, batch, routed=routed)
    if unread is None or routed:
        return values, None
    gone = unread[list(rows)] if unread.ndim == 2 else unread
    if gone.shape != values.shape[:-1] or not bool(gone.any()):
        return values, None
    # Zeros instead of the read tokens alone: rows stay rows, and what is no number counts for nothing.
    return values.masked_fill(gone.to(values.device)[..., None], 0), ~gone


class _Run:
    """One forward: the output, and a fingerprint of every token of every layer's input."""

    def __init__(self, transformer: nn.Module, layers: Sequence[Layer], args: tuple, kwargs: dict, number: int):
        self.batch, self.number = batch_size(args, kwargs), number
        self.prints: dict[str, list[torch.Tensor]] = {}
        with ExitStack() as stack:
            for layer in layers:
                if not layer.routed:
                    hook = transformer.get_submodule(layer.name).register_forward_pre_hook(self._hook(layer.name))
                    stack.callback(hook.remove)
            self.outputs = list(_tensors(transformer.forward(*args, **kwargs)))

    def _hook(self, name: str):
        def note(module: nn.Module, args: tuple) -> None:
            self.prints.setdefault(name, []).append(self._fingerprint(args[0]))

        return note

    def _fingerprint(self, inputs: torch.Tensor) -> torch.Tensor:
        """One integer per token that changes with any bit of it, (rows, tokens) or (tokens,) on the CPU.

        What is no number differs in every run: a token that holds such and leaves the output finite is not read.
        """
        values = select_rows(inputs, range(self.batch), self.batch)
        values = values if values.element_size() in _INTEGERS else values.float()
        bits = (values + 0.0).view(_INTEGERS[values.element_size()])  # adding 0 makes -0 and 0 the same
        generator = torch.Generator().manual_seed(0)
        factors = 2 * torch.randint(1 << 29, (bits.shape[-1],), generator=generator, dtype=torch.int32) + 1
        prints = bits.to(torch.int32).mul_(factors.to(bits.device)).sum(-1, dtype=torch.int64)
        return (prints + self.number * values.isnan().any(-1)).cpu()


def _compare(base: _Run, other: _Run) -> Unread | None:
    same = _same_rows(base, other)
    if not bool(same.any()):
        return None
    known: dict[tuple, torch.Tensor] = {}  # many layers have the same tokens: kept once

    def unread(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor | None:
        if first.shape != second.shape:
            return None
        differs = (first != second) & (same[:, None] if first.ndim == 2 else same.all())
        key = tuple(differs.shape), differs.numpy().tobytes()
        return known.setdefault(key, differs) if bool(differs.any()) else None

    found = {
        name: tuple(map(unread, prints, other.prints[name]))
        for name, prints in base.prints.items()
        if len(prints) == len(other.prints.get(name, ()))
    }
    found = {name: tokens for name, tokens in found.items() if any(one is not None for one in tokens)}
    return Unread(found) if found else None


def _same_rows(base: _Run, other: _Run) -> torch.Tensor:
    """(rows,) bool: whose outputs are the same in every bit, and not zero whatever goes in."""
    same, alive = torch.ones(base.batch, dtype=torch.bool), torch.zeros(base.batch, dtype=torch.bool)
    if len(base.outputs) != len(other.outputs):
        return alive
    for first, second in zip(base.outputs, other.outputs, strict=True):
        if first.shape != second.shape:
            return torch.zeros_like(same)
        rows = base.batch if first.ndim and first.shape[0] == base.batch else 1
        same &= (first == second).reshape(rows, -1).all(1).cpu()
        alive |= first.reshape(rows, -1).any(1).cpu()
    return same & alive


def _with_noise(transformer: nn.Module, args: tuple, kwargs: dict) -> Iterator[tuple[tuple, dict]]:
    """The call with noise in place of masked embeddings.

    Masks of the text's own length come first; of several that fit, a token must be masked by all. A longer mask spans
    image tokens too, and text stands at its start or at its end: only the right one leaves the output as it was.
    """
    named, batch = _named(transformer, args, kwargs), batch_size(args, kwargs)
    masks = _masks(transformer, args, kwargs)
    others = {_LATENTS, next(iter(named), ""), *masks}
    lengths = {mask.shape[1] for mask in masks.values()}
    texts = [
        tensor
        for name, value in named.items()
        if name not in others
        for tensor in _tensors(value)
        if tensor.ndim >= 3 and tensor.shape[0] == batch and tensor.is_floating_point()
    ]
    longer = any(tensor.shape[1] not in lengths for tensor in texts)
    for at_end in (False, True)[: 1 + longer]:
        made = {id(text): _noisy(text, list(masks.values()), at_end) for text in texts}
        noise = {name: noisy for name, noisy in made.items() if noisy is not None}
        if noise:
            yield _swap(args, noise), _swap(kwargs, noise)


def _noisy(tensor: torch.Tensor, masks: list[torch.Tensor], at_end: bool) -> torch.Tensor | None:
    """Embeddings (rows, tokens, …) with noise of their own scale where masked; None if no mask fits or masks any."""
    length = tensor.shape[1]
    fitting = [mask for mask in masks if mask.shape[1] == length] or [
        mask[:, -length:] if at_end else mask[:, :length] for mask in masks if mask.shape[1] > length
    ]
    read = torch.stack(fitting).any(0).to(tensor.device) if fitting else None
    if read is None or bool(read.all()):
        return None
    kept = tensor[read].float()
    scale = kept.square().mean().sqrt() if kept.numel() and bool(kept.any()) else 1.0
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor.device) * scale
    return torch.where(read.reshape(*read.shape, *[1] * (tensor.ndim - 2)), tensor, noise.to(tensor.dtype))


def _masks(transformer: nn.Module, args: tuple, kwargs: dict) -> dict[str, torch.Tensor]:
    """Name -> (rows, tokens) bool of every mask in a call, True is read."""
    batch, found = batch_size(args, kwargs), {}
    for name, mask in _named(transformer, args, kwargs).items():
        if "mask" not in name or not isinstance(mask, torch.Tensor) or mask.ndim < 2 or mask.shape[0] != batch:
            continue
        bias = mask.is_floating_point() and bool((mask < 0).any())
        read = mask > -1 if bias else mask > 0
        found[name] = read.reshape(batch, -1, mask.shape[-1]).any(1)  # by any query
    return found


def _named(transformer: nn.Module, args: tuple, kwargs: dict) -> dict[str, object]:
    """All arguments by name."""
    if not args:
        return kwargs
    names = list(inspect.signature(transformer.forward).parameters)
    names += [str(place) for place in range(len(names), len(args))]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """All tensors inside a value, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _swap(value, others: Mapping[int, torch.Tensor]):
    """The same structure of dictionaries, lists and tuples with some tensors, named by their ids, exchanged."""
    if type(value) is dict:
        return {key: _swap(item, others) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_swap(item, others) for item in value)
    return others.get(id(value), value)
