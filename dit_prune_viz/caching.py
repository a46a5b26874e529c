"""The one design of a cache in memory: bounded in bytes, held by an owner, the least recently used goes first."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

Value = TypeVar("Value")


class Cache:
    """A thread-safe mapping that drops what was used longest ago once its values exceed a number of bytes.

    Values are shared, so nobody may change them. A value that is larger than the bound stays until the next one comes.
    A cache dies with its owner: hold it where its values belong, as `Model.cache` holds what follows from a model.

    Args:
        limit: bytes that the values may take together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._used = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self._used

    def find(self, key: Hashable, default: Value | None = None) -> Any | Value | None:
        """The value of `key`, or `default`."""
        with self._lock:
            if key not in self._entries:
                return default
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Remember a value."""
        self.put_all({key: value})

    def put_all(self, values: Mapping[Hashable, Any]) -> None:
        """Remember values that are needed together: none of them is dropped to make room for another."""
        with self._lock:
            for key, value in values.items():
                self._drop(key)
                size = nbytes(value)
                self._entries[key] = value, size
                self._used += size
            for key in list(self._entries)[: len(self._entries) - len(values)]:
                if self._used <= self.limit:
                    break
                self._drop(key)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made and remembered if there is none. Two threads may both make it."""
        missing = object()
        value = self.find(key, missing)
        if value is missing:
            value = make()
            self.put(key, value)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._used = 0

    def _drop(self, key: Hashable) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self._used -= size


def nbytes(value: object) -> int:
    """About how many bytes a value takes: its own `nbytes`, else those of its parts."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    own = getattr(value, "nbytes", None)
    if isinstance(own, int):
        return own
    if isinstance(value, str | bytes):
        return sys.getsizeof(value)
    if isinstance(value, Mapping):
        return sum(map(nbytes, value.values())) + 64 * len(value)
    if isinstance(value, tuple | list):
        return sum(map(nbytes, value)) + 64
    parts = getattr(value, "__dict__", None)
    return sum(map(nbytes, parts.values())) + 64 if parts else 64
