"""Values as nothing but bytes, numbers, texts and names of classes, so that they can cross into another process.

A tensor would travel as a handle on memory of the process that made it, which may be gone when it is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image


@dataclass(frozen=True)
class _Tensor:
    dtype: torch.dtype
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class _Picture:
    mode: str
    size: tuple[int, int]
    data: bytes


@dataclass(frozen=True)
class _Object:
    made_of: type
    values: Mapping[str, Any]


def to_plain(value: Any) -> Any:
    """A value of dataclasses, mappings, tuples, tensors and pictures as a plain one."""
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return _Tensor(value.dtype, tuple(value.shape), flat.numpy().tobytes())
    if isinstance(value, Image.Image):
        return _Picture(value.mode, value.size, value.tobytes())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return _Object(type(value), {one.name: to_plain(getattr(value, one.name)) for one in fields if one.init})
    if isinstance(value, Mapping):
        return {key: to_plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(to_plain, value))
    return value


def from_plain(value: Any) -> Any:
    """The value that `to_plain` was given; its tensors lie on the CPU."""
    if isinstance(value, _Tensor):
        if not value.data:
            return torch.empty(value.shape, dtype=value.dtype)
        return torch.frombuffer(bytearray(value.data), dtype=torch.uint8).view(value.dtype).reshape(value.shape)
    if isinstance(value, _Picture):
        return Image.frombytes(value.mode, value.size, value.data)
    if isinstance(value, _Object):
        return value.made_of(**{name: from_plain(one) for name, one in value.values.items()})
    if isinstance(value, Mapping):
        return {key: from_plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(from_plain, value))
    return value
