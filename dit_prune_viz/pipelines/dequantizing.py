"""Quantised weights made plain where a file holds all that this takes: fp8 with its scales, and GGUF."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.packages import require
from dit_prune_viz.pipelines.weight_files import AGAIN, Part, Stored

if TYPE_CHECKING:
    from gguf import GGUFReader

FP8 = ("F8_E4M3", "F8_E5M2")
_FP8_TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
_SCALES = ("scale_weight", "weight_scale", "weight_scale_inv")
"""ComfyUI's names of the factor by which a layer's fp8 weights are multiplied, and DeepSeek's, which means the same."""
_BESIDE = re.compile(
    r"(?:(?:^|.*\.)(?:scale_weight|weight_scale|weight_scale_inv|scale_input|input_scale|comfy_quant)|.*scaled_fp8)"
)
_BLOCK = 128
"""Rows and columns of a block with one scale, where it is not said otherwise."""
_PLAIN_GGUF = ("F32", "F16", "BF16", "F64")


def is_fp8(part: Part) -> bool:
    """Whether some weights of a part are stored as fp8, and none in other codes."""
    kinds = {
        stored.dtype for key, stored in part.tensors.items() if key.endswith("weight") and not _BESIDE.fullmatch(key)
    }
    return bool(kinds & set(FP8)) and all(kind in FP8 or kind.startswith(("F", "BF")) for kind in kinds)


def as_plain(part: Part) -> Part:
    """The part with fp8 weights as it is once they are plain: what stands beside its weights is gone."""
    tensors = {
        key: replace(stored, dtype="F32") if stored.dtype in FP8 else stored
        for key, stored in part.tensors.items()
        if not _BESIDE.fullmatch(key)
    }
    return replace(part, tensors=tensors, config=part.config or part.folder)


def read_tensors(part: Part, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All tensors in a part's files, plain; those of a GGUF file are in `dtype`, fp8 becomes float32."""
    tensors: dict[str, torch.Tensor] = {}
    for file in part.files:
        if file.endswith(".gguf"):
            tensors |= dict(_gguf_tensors(part.folder / file, dtype))
        else:
            tensors |= load_file(part.folder / file)
    return {key: _plain(key, tensor, tensors) for key, tensor in tensors.items() if key in part.tensors}


def gguf_header(path: Path, name: str, *, dequantize: bool) -> dict[str, Stored]:
    """What lies in a GGUF file by key, as it is once it is plain.

    Raises:
        UserError: the weights are quantised and are not to be dequantised, gguf is not installed, or the file is
            damaged.
    """
    require("gguf", f"{name}, a GGUF file,")
    reader = _reader(path, name)
    codes = sorted({tensor.tensor_type.name for tensor in reader.tensors} - set(_PLAIN_GGUF))
    if codes and not dequantize:
        raise UserError(
            f"{name} is quantised (GGUF, {codes[0]}), so its weights cannot be ranked; load it with --dequantize, or "
            "the .safetensors file that it was made from."
        )
    return {tensor.name: Stored(path.name, "F32", _gguf_shape(reader, tensor)) for tensor in reader.tensors}


def _plain(key: str, tensor: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if tensor.dtype not in _FP8_TYPES:
        return tensor
    weight = tensor.float()
    layer = key.removesuffix("weight")
    scale = next((tensors[f"{layer}{name}"] for name in _SCALES if f"{layer}{name}" in tensors), None)
    return weight if scale is None else weight * _spread(scale.float(), weight.shape)


def _spread(scale: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A scale for all, each row or each block of a weight, so that the two can be multiplied."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.numel() == shape[0]:
        return scale.reshape(-1, *[1] * (len(shape) - 1))
    for dimension, size in enumerate(shape):
        blocks = scale.shape[dimension]
        block = _BLOCK if math.ceil(size / _BLOCK) == blocks else math.ceil(size / blocks)
        scale = scale.repeat_interleave(block, dimension).narrow(dimension, 0, size)
    return scale


def _reader(path: Path, name: str) -> GGUFReader:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"{name} could not be loaded: {path.name} is damaged; {AGAIN}") from error


def _gguf_tensors(path: Path, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    from gguf.quants import dequantize

    reader = _reader(path, path.name)
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        yield tensor.name, values.reshape(_gguf_shape(reader, tensor)).to(dtype)


def _gguf_shape(reader: GGUFReader, tensor) -> tuple[int, ...]:
    """The shape as torch writes it; ComfyUI's converter stores that of a tensor which GGUF could not keep."""
    field = reader.get_field(f"comfy.gguf.orig_shape.{tensor.name}")
    if field is not None:
        return tuple(int(field.parts[index][0]) for index in field.data)
    return tuple(int(size) for size in reversed(tensor.shape))
