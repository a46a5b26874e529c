"""The safetensors files of the packed format, written part by part, and what they weigh before they are."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SUFFIX = ".safetensors"
SHARD_BYTES = 2 << 30
"""A file is closed when it holds more, so that no more than this waits in memory."""


class Shards:
    """Files that are filled one after the other.

    Args:
        folder: where they go; None only counts their bytes.
        most: bytes after which a file is closed.

    Attributes:
        files: names of the files that were begun.
        nbytes: of all closed files.
    """

    def __init__(self, folder: Path | None, most: int = SHARD_BYTES) -> None:
        self._folder, self._most = folder, most
        self._waiting: dict[str, np.ndarray | None] = {}
        self._sizes: dict[str, int] = {}
        self._held = 0
        self.files: list[str] = []
        self.nbytes = 0

    def put(self, name: str, parts: Mapping[str, np.ndarray]) -> int:
        """Add the parts of a tensor; the place of their file among `files`."""
        if not self._sizes:
            self.files.append(f"packed-{len(self.files) + 1:05d}{SUFFIX}")
        for part, data in parts.items():
            key = f"{name}/{part}"
            self._waiting[key] = None if self._folder is None else data
            self._sizes[key] = data.nbytes
            self._held += data.nbytes
        place = len(self.files) - 1
        if self._held > self._most:
            self.close()
        return place

    def close(self) -> None:
        """Write what waits."""
        if not self.files or not (self._sizes or self._folder):
            return
        head = shard_head(self._sizes)
        self.nbytes += len(head) + self._held
        if self._folder is not None:
            with (self._folder / self.files[-1]).open("wb") as file:
                file.write(head)
                for key in sorted(self._waiting):
                    file.write(np.ascontiguousarray(self._waiting[key]).data)
        self._waiting, self._sizes, self._held = {}, {}, 0


def shard_head(sizes: Mapping[str, int]) -> bytes:
    """The start of a safetensors file of uint8 tensors of one dimension, in the order of their names.

    Args:
        sizes: name → bytes.
    """
    entries, start = {}, 0
    for key in sorted(sizes):
        entries[key] = {"dtype": "U8", "shape": [sizes[key]], "data_offsets": [start, start + sizes[key]]}
        start += sizes[key]
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
