"""Rows of a transformer call's batch: its arguments taken apart and put together again, and rows of what layers see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch

Arguments = Mapping[str | int, object]
"""Positional arguments by position and keyword arguments by name."""
Path = tuple[str | int, ...]


def arguments(args: tuple, kwargs: dict) -> Arguments:
    """Both kinds of arguments in one mapping."""
    return {**dict(enumerate(args)), **kwargs}


def split(call: Arguments) -> tuple[tuple, dict]:
    """(args, kwargs) again."""
    positions = sum(isinstance(key, int) for key in call)
    return tuple(call[index] for index in range(positions)), {
        key: value for key, value in call.items() if isinstance(key, str)
    }


def batch_size(args: tuple, kwargs: dict) -> int:
    """Rows of a transformer call: length of its `hidden_states`, or of its first argument (some take lists)."""
    hidden = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))
    return len(hidden)


def lengths(call: Arguments) -> dict[Path, int]:
    """Path -> length of every tensor's first dimension and of every list in the arguments."""
    found: dict[Path, int] = {}

    def note(path: Path, leaf: object) -> object:
        if isinstance(leaf, list):
            found[path] = len(leaf)
        elif isinstance(leaf, torch.Tensor) and leaf.ndim:
            found[path] = leaf.shape[0]
        return leaf

    _map(call, note)
    return found


def batched(small: Mapping[Path, int], small_batch: int, large: Mapping[Path, int], large_batch: int) -> set[Path]:
    """The paths whose lengths are those of the batch in both of two calls; the batches must differ.

    One call alone does not tell: sixteen text tokens look like a batch of sixteen.
    """
    return {path for path, size in large.items() if size == large_batch and small.get(path) == small_batch}


def take_row(call: Arguments, row: int, paths: set[Path]) -> Arguments:
    """The arguments of one row of the batch alone, where `paths` hold one entry per row; all on the CPU, copied."""
    return _map(call, lambda path, leaf: _store(leaf[row : row + 1] if path in paths else leaf))


def store(call: Arguments) -> Arguments:
    """The arguments as they are, on the CPU, copied."""
    return _map(call, lambda path, leaf: _store(leaf))


def joins(first: Arguments, second: Arguments, paths: set[Path]) -> bool:
    """Whether two calls can be one: `paths` fit together and everything else is equal."""
    leaves = [dict(_leaves(call)) for call in (first, second)]
    return leaves[0].keys() == leaves[1].keys() and all(
        _alike(leaf, leaves[1][path], path in paths) for path, leaf in leaves[0].items()
    )


def equal_leaves(first: Arguments, second: Arguments) -> int:
    """How many of the arguments of two calls are equal."""
    others = dict(_leaves(second))
    return sum(path in others and _alike(leaf, others[path], False) for path, leaf in _leaves(first))


def join(calls: Sequence[Arguments], paths: set[Path]) -> Arguments:
    """One call with the rows of all, in order."""
    others = [dict(_leaves(call)) for call in calls]

    def merge(path: Path, leaf: object) -> object:
        if path not in paths:
            return leaf
        values = [other[path] for other in others]
        return list(chain.from_iterable(values)) if isinstance(leaf, list) else torch.cat(values)

    return _map(calls[0], merge)


def move(call: Arguments, device: torch.device) -> Arguments:
    """The arguments with all tensors on `device`."""
    return _map(call, lambda path, leaf: _each(leaf, lambda tensor: tensor.to(device)))


def nbytes(call: Arguments) -> int:
    """Bytes of all tensors in the arguments."""
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    _map(call, lambda path, leaf: _each(leaf, count))
    return total


def select_rows(inputs: torch.Tensor, rows: Sequence[int], batch: int, *, routed: bool = False) -> torch.Tensor:
    """The watched rows of a layer's input of any rank; dimension 0 is the batch.

    Where a family folds more into dimension 0 (tokens, frames), each row owns an equal run of it. An input shared by
    the whole batch (dimension 0 is 1, or no batch at all) counts once per watched row.

    Of a routed expert's tokens it is not known which rows of the batch they come from: all tokens of the call are
    taken, also those of rows that are not watched. Only an expert that is given the whole batch, with its dimension,
    is like any other layer.

    Args:
        inputs: (batch, …, d_in), or of a routed expert (tokens, d_in).
        rows: the watched ones.
        batch: rows of the transformer call.
        routed: whether the layer belongs to an expert, see `Layer`.

    Returns:
        (watched rows, tokens, d_in), or (tokens, d_in) where the rows are unknown.
    """
    if routed and (inputs.ndim < 3 or inputs.shape[0] != batch):
        return inputs.reshape(-1, inputs.shape[-1])
    if inputs.ndim == 1 or (inputs.shape[0] == 1 and batch > 1):
        return inputs.reshape(1, -1, inputs.shape[-1]).expand(len(rows), -1, -1)
    if inputs.shape[0] % batch:
        return inputs.reshape(-1, inputs.shape[-1])
    runs = inputs.reshape(batch, -1, inputs.shape[-1])
    step = max(1, rows[1] - rows[0]) if len(rows) > 1 else 1
    if list(rows) == list(range(rows[0], rows[-1] + 1, step)):
        return runs[rows[0] : rows[-1] + 1 : step]  # a view, no copy
    return runs[list(rows)]


def watched_tokens(
    inputs: torch.Tensor, rows: Sequence[int], batch: int, *, routed: bool = False, unread: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What `select_rows` returns, with unread tokens as zeros, and which tokens are read.

    Args:
        inputs: as there.
        rows: as there.
        batch: as there.
        routed: as there.
        unread: (rows of the call, tokens) or (tokens,) bool, True is unread; None where all are read. One that does not
            fit, as where an altered model routes tokens otherwise, is left aside.

    Returns:
        The tokens, and (watched rows, tokens) or (tokens,) bool on the CPU, True is read; None where all are.
    """
    values = select_rows(inputs, rows, batch, routed=routed)
    if unread is None:
        return values, None
    gone = unread[list(rows)] if unread.ndim == 2 else unread
    if gone.shape != values.shape[:-1] or not bool(gone.any()):
        return values, None
    # Zeros instead of the read tokens alone: rows stay rows, and what is no number counts for nothing.
    return values.masked_fill(gone.to(values.device)[..., None], 0), ~gone


def _map(value: object, change: Callable[[Path, object], object], path: Path = ()) -> object:
    """The same structure of dicts and tuples with every leaf changed; a list is a leaf."""
    if isinstance(value, Mapping):
        return {key: _map(item, change, (*path, key)) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(_map(item, change, (*path, index)) for index, item in enumerate(value))
    return change(path, value)


def _leaves(call: Arguments) -> list[tuple[Path, object]]:
    found: list[tuple[Path, object]] = []
    _map(call, lambda path, leaf: found.append((path, leaf)))
    return found


def _each(leaf: object, change: Callable[[torch.Tensor], torch.Tensor]) -> object:
    if isinstance(leaf, torch.Tensor):
        return change(leaf)
    return [_each(item, change) for item in leaf] if isinstance(leaf, list) else leaf


def _store(leaf: object) -> object:
    return _each(leaf, lambda tensor: tensor.detach().to("cpu", copy=True))


def _alike(first: object, second: object, rows: bool) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if rows:
            return first.shape[1:] == second.shape[1:]
        return first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, list) and isinstance(second, list):
        return rows or (len(first) == len(second) and all(map(_alike, first, second, [False] * len(first))))
    return type(first) is type(second) and bool(first == second)
