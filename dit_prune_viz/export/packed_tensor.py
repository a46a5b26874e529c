"""One tensor in the packed format: which values are kept, and their bytes by significance, or their codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.export import mask_coding
from dit_prune_viz.export.byte_planes import bits_from, bits_of, narrowest, planes_of, values_of
from dit_prune_viz.export.coding import ZERO, decode, encode, from_pairs, to_pairs
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.rounding import Rounded
from dit_prune_viz.masks.spread import gather, spread

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_AGAIN = "download or pack the model again."
_MASK, _FAR, _CODES, _SCALES = "mask", "far", "codes", "scales."
_NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A tensor as it lies in a packed file.

    Attributes:
        entry: what the header says of it, in JSON's types.
        parts: name → uint8 (n,), such as "mask" and "byte0".
        name: of the tensor; empty where it has none.
    """

    entry: Mapping[str, object]
    parts: Mapping[str, np.ndarray]
    name: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.entry["shape"])

    @property
    def table(self) -> tuple[int, int]:
        """(d_out, d_in) of a tensor with a mask or codes: its columns are all dimensions but the first."""
        rows, *rest = self.shape
        return rows, math.prod(rest)


def pack_tensor(tensor: Tensor, mask: PackedMask | None = None) -> PackedTensor:
    """Pack a tensor without loss.

    Args:
        tensor: float32, bfloat16 or float16, any shape, on the CPU.
        mask: of a table (d_out, d_in): only what it keeps is stored, the rest is zero; None keeps all.

    Raises:
        UserError: another precision.
    """
    _name(tensor.dtype)
    kept = tensor.reshape(-1) if mask is None else gather(mask, tensor.detach().reshape(mask.shape))
    return pack_values(kept, tuple(tensor.shape), mask)


def pack_values(values: Tensor, shape: tuple[int, ...], mask: PackedMask | None) -> PackedTensor:
    """As `pack_tensor`, from the kept values (n,), row by row; the mask's columns are all dimensions but the first."""
    dtype = _name(values.dtype)
    narrow = narrowest(values.detach())
    parts: dict[str, np.ndarray] = {}
    entry: dict[str, object] = {"shape": list(shape), "dtype": dtype, "kept": values.numel()}
    if narrow.dtype != values.dtype:
        entry["stored"] = _name(narrow.dtype)
    if mask is not None:
        entry[_MASK], parts[_MASK] = mask_coding.pack_mask(mask)
    entry["bytes"] = _pack_bytes(narrow, parts)
    return _made(entry, parts)


def pack_rounded(rounded: Rounded, shape: tuple[int, ...], dtype: torch.dtype) -> PackedTensor:
    """Pack rounded weights: their codes and scales, and their mask where they have one.

    Args:
        rounded: on the CPU.
        shape: of the tensor; its columns are all dimensions but the first.
        dtype: the precision that code · scale comes back in.
    """
    parts: dict[str, np.ndarray] = {}
    codes = rounded.codes.numpy().view(np.uint8)
    entry: dict[str, object] = {"shape": list(shape), "dtype": _name(dtype), "kept": len(codes)}
    if rounded.mask is not None:
        entry[_MASK], parts[_MASK] = mask_coding.pack_mask(rounded.mask)
    coding, parts[_CODES] = encode(codes if rounded.bits == 8 else _halved(codes))
    entry["rounded"] = {
        "bits": rounded.bits,
        "group": rounded.group,
        "coding": coding,
        "dtype": _name(rounded.scales.dtype),
        "bytes": _pack_bytes(rounded.scales.reshape(-1), parts, _SCALES),
    }
    return _made(entry, parts)


def unpack_tensor(packed: PackedTensor) -> Tensor:
    """The tensor that was packed, zero where a mask prunes it.

    Raises:
        UserError: an entry and parts that do not fit together.
    """
    if "rounded" in packed.entry:
        return unpack_rounded(packed).values().view(packed.shape)
    values, mask = unpack_values(packed), unpack_mask(packed)
    return (values if mask is None else spread(mask, values)).view(packed.shape)


def unpack_values(packed: PackedTensor) -> Tensor:
    """The kept values (n,), row by row.

    Raises:
        UserError: as in `unpack_tensor`.
    """
    entry = packed.entry
    if "rounded" in entry:
        return unpack_rounded(packed).kept()
    stored = DTYPES[entry.get("stored", entry["dtype"])]
    return _unpack_bytes(entry["bytes"], packed.parts, entry["kept"], stored).to(DTYPES[entry["dtype"]])


def unpack_rounded(packed: PackedTensor) -> Rounded:
    """The codes and scales of rounded weights.

    Raises:
        UserError: as in `unpack_tensor`.
    """
    entry, about = packed.entry, packed.entry["rounded"]
    kept, bits, group, (rows, columns) = entry["kept"], about["bits"], about["group"], packed.table
    codes = decode(about["coding"], packed.parts.get(_CODES, _NOTHING), kept if bits == 8 else -(-kept // 2))
    codes = codes.view(np.int8) if bits == 8 else _whole(codes, kept)
    groups = -(-columns // group)
    scales = _unpack_bytes(about["bytes"], packed.parts, rows * groups, DTYPES[about["dtype"]], _SCALES)
    mask, codes = unpack_mask(packed), torch.from_numpy(codes if codes.flags.writeable else codes.copy())
    return Rounded(codes, scales.view(rows, groups), (rows, columns), bits, group, mask, DTYPES[entry["dtype"]])


def unpack_mask(packed: PackedTensor) -> PackedMask | None:
    """The mask of a packed table; None where all is kept.

    Raises:
        UserError: as in `unpack_tensor`.
    """
    coded, kept = packed.entry.get(_MASK), packed.entry["kept"]
    if coded is None:
        return None
    mask = mask_coding.unpack_mask(coded, packed.parts.get(_MASK, _NOTHING), packed.table)
    if mask.kept != kept:
        raise UserError(f"A packed mask keeps {mask.kept:,} weights where there are {kept:,}; {_AGAIN}")
    return mask


def _name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UserError(f"A tensor in {name} cannot be packed; load the model in {', '.join(DTYPES)}.")
    return name


def _made(entry: dict[str, object], parts: dict[str, np.ndarray]) -> PackedTensor:
    return PackedTensor(entry, {name: part for name, part in parts.items() if len(part)})


def _pack_bytes(values: Tensor, parts: dict[str, np.ndarray], start: str = "") -> list[dict[str, object]]:
    """Code every byte of the values (n,) into `parts`, their names after `start`; what the header says of each."""
    if not values.numel():
        return []
    first, *others = planes_of(bits_of(values))
    entry, shortest = _pack_exponents(f"{start}byte0", first)
    parts.update(shortest)
    entries = [entry]
    for place, plane in enumerate(others, 1):
        coding, parts[f"{start}byte{place}"] = encode(plane)
        entries.append({"coding": coding})
    return entries


def _unpack_bytes(
    entries: list[Mapping[str, object]],
    parts: Mapping[str, np.ndarray],
    size: int,
    dtype: torch.dtype,
    start: str = "",
) -> Tensor:
    """The values (size,) that `_pack_bytes` coded."""
    if not size:
        return torch.zeros(0, dtype=dtype)
    if len(entries) != dtype.itemsize:
        raise UserError(f"A packed tensor in {_name(dtype)} has {len(entries)} bytes a value; {_AGAIN}")
    planes = [_unpack_byte(entry, parts, f"{start}byte{place}", size) for place, entry in enumerate(entries)]
    return values_of(bits_from(planes), dtype)


def _pack_exponents(name: str, plane: np.ndarray) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """The first bytes as pairs of distances, or each by itself where that is shorter."""
    top, pairs, far = to_pairs(plane)
    (coding, stored), (far_coding, far_stored) = encode(pairs), encode(far) if len(far) else (ZERO, _NOTHING)
    paired = {"coding": coding, "top": top, "far": len(far), "far_coding": far_coding}
    if len(far) * 8 < len(plane):
        return paired, {name: stored, f"{name}.{_FAR}": far_stored}
    single_coding, single = encode(plane)
    if len(single) <= len(stored) + len(far_stored):
        return {"coding": single_coding}, {name: single}
    return paired, {name: stored, f"{name}.{_FAR}": far_stored}


def _unpack_byte(entry: Mapping[str, object], parts: Mapping[str, np.ndarray], name: str, size: int) -> np.ndarray:
    stored = parts.get(name, _NOTHING)
    if "top" not in entry:
        return decode(entry["coding"], stored, size)
    pairs = decode(entry["coding"], stored, -(-size // 2))
    far = decode(entry["far_coding"], parts.get(f"{name}.{_FAR}", _NOTHING), entry["far"])
    return from_pairs(entry["top"], pairs, far, size)


def _halved(codes: np.ndarray) -> np.ndarray:
    """Codes of four bits, two in a byte, the first in its upper half."""
    even = np.append(codes, np.zeros(len(codes) % 2, np.uint8))
    return even[0::2] << 4 | even[1::2] & 15


def _whole(pairs: np.ndarray, size: int) -> np.ndarray:
    """int8 (size,) codes that `_halved` put together."""
    both = np.stack([pairs, pairs << 4], axis=1).reshape(-1)[:size]
    return both.view(np.int8) >> 4
