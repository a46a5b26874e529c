"""Write a safetensors file tensor by tensor, so that no more than one of them is in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dit_prune_viz.errors import Progress, UserError

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
HALVES = (torch.bfloat16, torch.float16)
"""Precisions in which float32 weights are stored that these hold exactly."""

_ALIGNED = 64
"""Bytes. Readers map the file into memory; where tables start at odd places, CPUs add up in another order."""


def write_weights(
    path: Path,
    blank: Mapping[str, Tensor],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Write tensors into a new file; see https://huggingface.co/docs/safetensors for the format.

    Args:
        path: of the file.
        blank: name → a tensor of the shape and precision that will be written, which may hold nothing.
        tensor: called once with every name.
        metadata: of the file; {"format": "pt"} is added, without which some readers refuse it.
        progress: called before every tensor; may raise `Cancelled`.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    names = _order(blank)
    with path.open("xb") as file:
        file.write(_header(names, blank, metadata))
        for done, name in enumerate(names):
            if progress:
                progress(done, len(names), f"Writing {name}")
            value = tensor(name)
            if value.shape != blank[name].shape or value.dtype != blank[name].dtype:
                raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, other than was announced")
            file.write(value.contiguous().reshape(-1).view(torch.uint8).numpy())


def file_bytes(blank: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Bytes of the file that `write_weights` makes of these."""
    return len(_header(_order(blank), blank, metadata)) + sum(tensor.nbytes for tensor in blank.values())


def fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether every number of a tensor is one of another precision."""
    return torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def _order(blank: Mapping[str, Tensor]) -> list[str]:
    """Tensors that fill whole lines of memory first, so that these lie at the start of one."""
    return sorted(blank, key=lambda name: (blank[name].nbytes % _ALIGNED != 0, -blank[name].element_size()))


def _header(names: list[str], blank: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for name in names:
        stop = start + blank[name].nbytes
        kind, shape = _type(blank[name].dtype), list(blank[name].shape)
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _type(dtype: torch.dtype) -> str:
    if dtype not in _TYPES:
        raise UserError(f"Tensors in {dtype} cannot be written; load the model in bfloat16 or float32.")
    return _TYPES[dtype]
