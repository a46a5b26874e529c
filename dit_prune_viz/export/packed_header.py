"""The header of a packed model: what it must say, checked before anything is made by it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.packed_tensor import DTYPES
from dit_prune_viz.export.shards import SUFFIX

HEADER = "packed.json"
FORMAT = "dit-prune-viz packed"
LOSSLESS, ROUNDED = 1, 2
"""Versions: what every reader knows, and the one with rounded values."""

_MOST_BYTES = 256 << 20
"""Of a header; that of a model with a thousand layers takes half a megabyte."""

_MOST = 1 << 40
_AGAIN = "download or pack the model again."


def header_text(about: Mapping[str, object], files: list[str], entries: Mapping[str, Mapping]) -> str:
    """The text of a header.

    Args:
        about: further entries, in JSON's types.
        files: names of the shards.
        entries: tensor → entry.
    """
    version = ROUNDED if any("rounded" in entry for entry in entries.values()) else LOSSLESS
    header = {"format": FORMAT, "version": version, **about, "files": files, "tensors": entries}
    return json.dumps(header, ensure_ascii=False) + "\n"


def read_header(folder: Path) -> dict[str, object]:
    """The header of a packed folder.

    Raises:
        UserError: there is none, it is no JSON, of another format or a newer version, or says what cannot be.
    """
    path = folder / HEADER
    header = _parse(path)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path} is not the header of a packed model; give a folder that was packed.")
    version = header.get("version")
    if not _count(version) or version not in (LOSSLESS, ROUNDED):
        raise UserError(f"{path} has version {brief(version)}, but this one reads up to {ROUNDED}; update the app.")
    files, tensors = header.get("files"), header.get("tensors")
    good = isinstance(files, list) and all(_plain_name(file) for file in files) and isinstance(tensors, dict)
    if not good or not isinstance(header.get("parts", {}), dict):
        raise UserError(f"{path} is damaged; {_AGAIN}")
    for name, entry in tensors.items():
        if not _sound(entry, len(files)):
            raise UserError(f"{path} is damaged at {brief(name)}; {_AGAIN}")
    return header


def dense_bytes(header: Mapping[str, object]) -> int:
    """Bytes that the tensors of a header take in memory when they are plain."""
    entries = header["tensors"].values()
    return sum(math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize for entry in entries)


def resident_bytes(header: Mapping[str, object]) -> int:
    """Bytes they take when pruned ones keep their mask and values."""
    total = 0
    for entry in header["tensors"].values():
        total += entry["kept"] * DTYPES[entry["dtype"]].itemsize
        total += math.prod(entry["shape"]) // 8 if entry.get("mask") else 0
    return total


def _parse(path: Path) -> object:
    try:
        if not path.is_file():
            raise UserError(f"{path.parent} has no {HEADER}; give a folder that was packed.")
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is larger than any header is; {_AGAIN}")
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is not readable JSON; {_AGAIN}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key that comes twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _plain_name(file: object) -> bool:
    return isinstance(file, str) and file == Path(file).name and "\0" not in file and file.endswith(SUFFIX)


def _count(value: object, most: int = _MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most


def _sound(entry: object, files: int) -> bool:
    """Whether what a header says of a tensor can be."""
    if not isinstance(entry, dict) or not _is_shape(entry.get("shape")):
        return False
    shape, kept = entry["shape"], entry.get("kept")
    size = math.prod(shape)
    good = _count(kept) and _count(entry.get("file"), files) and isinstance(entry.get("sha256"), str)
    if not good or not _dtype(entry.get("dtype")) or not _dtype(entry.get("stored", entry["dtype"])):
        return False
    if "mask" in entry and not _is_mask(entry["mask"], shape):
        return False
    if kept != size and ("mask" not in entry or kept > size):
        return False
    if "rounded" in entry:
        return _is_rounded(entry["rounded"], shape)
    return _are_planes(entry.get("bytes"), kept, entry.get("stored", entry["dtype"]))


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, list) or len(shape) > 8 or not all(_count(side) for side in shape):
        return False
    return math.prod(shape) < _MOST


def _dtype(name: object) -> bool:
    return isinstance(name, str) and name in DTYPES


def _is_mask(mask: object, shape: list[int]) -> bool:
    good = isinstance(mask, dict) and mask.get("order") in ("rows", "columns") and isinstance(mask.get("coding"), str)
    return good and len(shape) > 1


def _are_planes(planes: object, size: int, dtype: str) -> bool:
    if not isinstance(planes, list) or len(planes) != (DTYPES[dtype].itemsize if size else 0):
        return False
    return all(_is_plane(plane, size) for plane in planes)


def _is_plane(plane: object, size: int) -> bool:
    if not isinstance(plane, dict) or not isinstance(plane.get("coding"), str):
        return False
    if "top" not in plane:
        return True
    return _count(plane["top"], 256) and _count(plane.get("far"), size + 1) and isinstance(plane.get("far_coding"), str)


def _is_rounded(rounded: object, shape: list[int]) -> bool:
    if not isinstance(rounded, dict) or len(shape) < 2 or not isinstance(rounded.get("coding"), str):
        return False
    columns, group = math.prod(shape[1:]), rounded.get("group")
    if rounded.get("bits") not in (4, 8) or not _count(group) or not 0 < group <= max(1, columns):
        return False
    scales = shape[0] * -(-columns // group)
    return _dtype(rounded.get("dtype")) and _are_planes(rounded.get("bytes"), scales, rounded["dtype"])
