"""What a transformer call says about padding: its masks, and the same call with noise in place of what they mask."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from dit_prune_viz.calibration.batch_rows import batch_size
from dit_prune_viz.pipelines.denoisers import LENGTHS, MASK, SEGMENTS

_LATENTS = "hidden_states"
_IDS = "input_ids"


def named(transformer: nn.Module, args: tuple, kwargs: Mapping) -> dict[str, object]:
    """All arguments of a call by name, those in dictionaries under their own."""
    names = list(inspect.signature(type(transformer).forward).parameters)[1:]
    names += [str(place) for place in range(len(names), len(args))]
    found: dict[str, object] = {}
    for name, value in {**dict(zip(names, args, strict=False)), **kwargs}.items():
        found.update(value if isinstance(value, Mapping) else {name: value})
    return found


def find_masks(transformer: nn.Module, args: tuple, kwargs: Mapping) -> dict[str, torch.Tensor]:
    """Name -> (rows, tokens) bool of everything in a call that masks tokens, True is read.

    That is a tensor with "mask" in its name, with one row or one per row of the batch: boolean, 0 and 1, or an additive
    bias. Of a square one (queries × keys) the last query counts, a token of the picture wherever text and picture are
    in one sequence; of another what any query reads. Lengths of texts mask what is beyond them, segments what is not in
    the last token's.
    """
    batch, found = batch_size(args, kwargs), {}
    arguments = named(transformer, args, kwargs)
    for name, value in arguments.items():
        if LENGTHS in name:
            found.update(_from_lengths(name, value, arguments, batch))
        if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[0] not in (1, batch):
            continue
        if SEGMENTS in name and value.ndim == 2:
            found[name] = (value == value[:, -1:]).expand(batch, -1)
        elif MASK in name:
            bias = value.is_floating_point() and bool((value < 0).any())
            read = value > -1 if bias else value > 0
            square = read.ndim > 2 and read.shape[-1] == read.shape[-2]
            read = read[..., -1, :] if square else read
            found[name] = read.reshape(len(read), -1, value.shape[-1]).any(1).expand(batch, -1)
    return found


def mask_pattern(transformer: nn.Module, args: tuple, kwargs: Mapping) -> tuple | None:
    """What the unread tokens of a call depend on: its masks and the shapes of its arguments. None if nothing is masked.

    Which tokens those are can be kept under it, for the same model.
    """
    masks = find_masks(transformer, args, kwargs)
    arguments = named(transformer, args, kwargs)
    if all(bool(mask.all()) for mask in masks.values()) and not any(
        _ragged(value, batch_size(args, kwargs)) for value in arguments.values()
    ):
        return None
    shapes = tuple((name, tuple(tensor.shape)) for name, value in arguments.items() for tensor in tensors(value))
    return shapes, tuple((name, mask.cpu().numpy().tobytes()) for name, mask in masks.items())


def with_noise(transformer: nn.Module, args: tuple, kwargs: dict, at_end: bool) -> tuple[tuple, dict] | None:
    """The call with noise in place of masked embeddings, None where no mask fits any.

    A mask fits embeddings of its own length; of several, the one whose name has most words in common. A longer mask
    spans the picture's tokens too, and text stands at its start, or `at_end`.
    """
    arguments, batch = named(transformer, args, kwargs), batch_size(args, kwargs)
    masks = find_masks(transformer, args, kwargs)
    others = {_LATENTS, next(iter(arguments), ""), *masks}
    noise = {}
    for name, value in arguments.items():
        for tensor in () if name in others else tensors(value):
            text = tensor.ndim >= 3 and tensor.is_floating_point()
            if (text or (name.endswith(_IDS) and tensor.ndim == 2)) and tensor.shape[0] == batch:
                read = _fitting(name, tensor, masks, at_end)
                if read is not None:
                    noise[id(tensor)] = noisy(tensor, ~read.to(tensor.device))
    return (_swap(args, noise), _swap(kwargs, noise)) if noise else None


def noisy(tensor: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Tokens (rows, tokens, …) with noise of the others' scale in some places; of ids, other ids out of the tensor."""
    if not tensor.is_floating_point():
        least, most = tensor.min(), tensor.max()
        return torch.where(where, torch.where(tensor == least, most, least), tensor)
    kept = tensor[~where].float()
    scale = kept.square().mean().sqrt() if kept.numel() and bool(kept.any()) else 1.0
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor.device) * scale
    made = torch.where(where.reshape(*where.shape, *[1] * (tensor.ndim - 2)), noise.to(tensor.dtype), tensor)
    if made.stride() == tensor.stride() or 0 in tensor.stride():
        return made
    # In another memory layout other kernels may run, and even the tokens that stay would end in other bits.
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(made)


def tensors(value: object) -> Iterator[torch.Tensor]:
    """All tensors inside a value, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def _from_lengths(name: str, value: object, arguments: Mapping, batch: int) -> dict[str, torch.Tensor]:
    """The mask that lengths of texts make, as long as the first embeddings they can belong to."""
    lengths = torch.as_tensor(value) if isinstance(value, list | torch.Tensor) else torch.zeros(0)
    if lengths.shape != (batch,) or lengths.is_floating_point():
        return {}
    texts = (tensor for key, item in arguments.items() if key != _LATENTS for tensor in tensors(item))
    sizes = (text.shape[1] for text in texts if text.ndim == 3 and text.shape[0] == batch)
    size = next((size for size in sizes if size >= int(lengths.max())), None)
    return {} if size is None else {name: torch.arange(size, device=lengths.device) < lengths[:, None]}


def _fitting(name: str, tensor: torch.Tensor, masks: Mapping[str, torch.Tensor], at_end: bool) -> torch.Tensor | None:
    """What of an argument is read, (rows, tokens); None where that is unknown or all of it."""
    length = tensor.shape[1]
    exact = {key: mask for key, mask in masks.items() if mask.shape[1] == length}
    longer = {
        key: mask[:, -length:] if at_end else mask[:, :length]
        for key, mask in masks.items()
        if mask.shape[1] > length and (tensor.ndim > 2 or not exact)
    }
    fitting = exact or longer
    if not fitting:
        return None
    best = max(fitting, key=lambda key: _alike(name, key))
    return None if bool(fitting[best].all()) else fitting[best]


def _alike(first: str, second: str) -> float:
    """Share of words that two names have in common, 0–1."""
    words = set(first.split("_")), set(second.split("_"))
    return len(words[0] & words[1]) / len(words[0] | words[1])


def _ragged(value: object, batch: int) -> bool:
    """Whether an argument lists a tensor per row, of several lengths, which the transformer will have to pad."""
    rows = value if isinstance(value, list) and len(value) == batch else ()
    return len({item.shape[0] for item in tensors(rows) if item.ndim}) > 1


def _swap(value, others: Mapping[int, torch.Tensor]):
    """The same structure of dictionaries, lists and tuples with some tensors, named by their ids, exchanged."""
    if type(value) is dict:
        return {key: _swap(item, others) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_swap(item, others) for item in value)
    return others.get(id(value), value)
