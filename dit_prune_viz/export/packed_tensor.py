"""One tensor in the packed format: which values are kept, and their bytes by significance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.coding import ZERO, decode, encode, from_pairs, to_pairs
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.spread import spread

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_AGAIN = "download or pack the model again."
_MASK, _FAR = "mask", "far"


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


def pack_tensor(tensor: Tensor, mask: PackedMask | None = None) -> PackedTensor:
    """Pack a tensor without loss.

    Args:
        tensor: float32, bfloat16 or float16, any shape, on the CPU.
        mask: of a table (d_out, d_in): only what it keeps is stored, the rest is zero; None keeps all.

    Raises:
        UserError: another precision.
    """
    kept = tensor if mask is None else tensor.reshape(mask.shape)[mask.unpack()]
    return pack_values(kept.reshape(-1), tuple(tensor.shape), mask)


def pack_values(values: Tensor, shape: tuple[int, ...], mask: PackedMask | None) -> PackedTensor:
    """As `pack_tensor`, from the kept values (n,), row by row; the mask's columns are all dimensions but the first."""
    dtype = _name(values.dtype)
    if dtype not in DTYPES:
        raise UserError(f"A tensor in {dtype} cannot be packed; load the model in {', '.join(DTYPES)}.")
    values = _narrowest(values.detach())
    parts: dict[str, np.ndarray] = {}
    entry: dict[str, object] = {"shape": list(shape), "dtype": dtype, "kept": values.numel()}
    if dtype != _name(values.dtype):
        entry["stored"] = _name(values.dtype)
    if mask is not None:
        entry[_MASK], parts[_MASK] = _pack_mask(mask)
    entry["bytes"] = _pack_bytes(_rotated(values), parts) if values.numel() else []
    return PackedTensor(entry, {name: part for name, part in parts.items() if len(part)})


def unpack_tensor(packed: PackedTensor) -> Tensor:
    """The tensor that was packed, zero where a mask prunes it.

    Raises:
        UserError: an entry and parts that do not fit together.
    """
    values, mask = unpack_values(packed), unpack_mask(packed)
    return (values if mask is None else spread(mask, values)).view(_shape(packed.entry))


def unpack_values(packed: PackedTensor) -> Tensor:
    """The kept values (n,), row by row.

    Raises:
        UserError: as in `unpack_tensor`.
    """
    entry, size = packed.entry, packed.entry["kept"]
    dtype = DTYPES[entry.get("stored", entry["dtype"])]
    if not size:
        return torch.zeros(0, dtype=DTYPES[entry["dtype"]])
    planes = []
    for place, coded in enumerate(entry["bytes"]):
        planes.append(_unpack_byte(coded, packed.parts, f"byte{place}", size))
    if len(planes) != dtype.itemsize:
        raise UserError(f"A packed tensor in {entry['dtype']} has {len(planes)} bytes a value; {_AGAIN}")
    kind = np.dtype(f"<u{dtype.itemsize}")
    rotated = np.empty((size, len(planes)), np.uint8)
    for place, plane in enumerate(planes):
        rotated[:, len(planes) - 1 - place] = plane
    bits = rotated.view(kind)[:, 0]
    values = (bits >> 1) | (bits << (8 * len(planes) - 1))
    narrow = torch.from_numpy(values.view(np.dtype(f"<i{dtype.itemsize}"))).view(dtype)
    return narrow.to(DTYPES[entry["dtype"]])


def unpack_mask(packed: PackedTensor) -> PackedMask | None:
    """The mask of a packed table; None where all is kept.

    Raises:
        UserError: as in `unpack_tensor`.
    """
    coded = packed.entry.get(_MASK)
    if coded is None:
        return None
    rows, *rest = _shape(packed.entry)
    shape = (rows, math.prod(rest))
    bits = decode(coded["coding"], packed.parts.get(_MASK, _NOTHING), -(-math.prod(shape) // 8))
    mask = PackedMask(torch.from_numpy(bits.copy()), shape if coded["order"] == "rows" else shape[::-1])
    if coded["order"] == "columns":
        mask = pack(mask.unpack().T)
    if mask.kept != packed.entry["kept"]:
        raise UserError(f"A packed mask keeps {mask.kept:,} weights where there are {packed.entry['kept']:,}; {_AGAIN}")
    return mask


_NOTHING = np.zeros(0, np.uint8)
_INTEGERS = {2: torch.int16, 4: torch.int32}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _narrowest(values: Tensor) -> Tensor:
    """The values in half the bytes where none of them changes: float32 is often loaded from bfloat16 or float16."""
    if values.dtype == torch.float32:
        for dtype in (torch.bfloat16, torch.float16):
            narrow = values.to(dtype)
            if torch.equal(narrow.to(torch.float32).view(torch.int32), values.view(torch.int32)):
                return narrow
    return values


def _rotated(values: Tensor) -> np.ndarray:
    """Unsigned integers (n,) of the values' bits, rotated left by one: the sign goes last, the exponent first."""
    size = values.element_size()
    bits = values.contiguous().view(_INTEGERS[size]).numpy().view(np.dtype(f"<u{size}"))
    return (bits << 1) | (bits >> (8 * size - 1))


def _pack_bytes(rotated: np.ndarray, parts: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """Code every byte of the values, the most significant first, into `parts`; what the header says of each."""
    size = rotated.dtype.itemsize
    bytes_of = rotated.view(np.uint8).reshape(-1, size)
    entries = []
    for place in range(size):
        name, plane = f"byte{place}", np.ascontiguousarray(bytes_of[:, size - 1 - place])
        if place == 0:
            entry, shortest = _pack_exponents(name, plane)
        else:
            coding, stored = encode(plane)
            entry, shortest = {"coding": coding}, {name: stored}
        entries.append(entry)
        parts.update(shortest)
    return entries


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


def _pack_mask(mask: PackedMask) -> tuple[dict[str, str], np.ndarray]:
    """The bits row by row or column by column, whichever is shorter: channels differ in how much of them is kept."""
    rows = ("rows", *encode(mask.bits.numpy()))
    columns = ("columns", *encode(pack(mask.unpack().T).bits.numpy()))
    order, coding, stored = min(rows, columns, key=lambda one: len(one[2]))
    return {"order": order, "coding": coding}, stored


def _shape(entry: Mapping[str, object]) -> tuple[int, ...]:
    return tuple(entry["shape"])
