"""Labels of units packed for a text: zlib over the smallest whole numbers, then base64, with a digest."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dit_prune_viz.checks import brief, check_keys, whole
from dit_prune_viz.errors import UserError

MOST_LABELS = 1 << 32
_TYPES = ("<u1", "<u2", "<u4")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class PackedLabels:
    """Whole numbers 0..k−1, one for every unit. Two of them are equal if they hold the same numbers.

    Nothing is unpacked before it is known how many numbers there should be, so that a few bytes cannot fill the memory.

    Attributes:
        units: how many numbers.
        k: each is smaller than that.
        data: zlib stream of the numbers, little-endian, in the smallest of uint8, uint16 and uint32 that holds k − 1.
        digest: sha256 of these bytes before compression, in hex.
    """

    units: int
    k: int
    data: bytes
    digest: str

    @property
    def size(self) -> int:
        """Bytes of the numbers without compression."""
        return self.units * np.dtype(_type(self.k)).itemsize

    def unpack(self, units: int) -> np.ndarray:
        """The labels, in an array of its own.

        Args:
            units: how many there have to be.

        Raises:
            UserError: another number of them, a damaged stream, or numbers that are too large.
        """
        if self.units != units:
            raise UserError(
                f"Clusters of {self.units:,} units do not fit a layer that has {units:,}; they belong to another layer."
            )
        reader = zlib.decompressobj()
        try:
            raw = reader.decompress(self.data, self.size + 1)
        except zlib.error:
            raw = b""
        whole_stream = reader.eof and not reader.unused_data and len(raw) == self.size
        if not whole_stream or hashlib.sha256(raw).hexdigest() != self.digest:
            raise UserError("The labels of a cluster are damaged: they do not fit their digest; save the recipe again.")
        labels = np.frombuffer(raw, _type(self.k))
        if len(labels) and int(labels.max()) >= self.k:
            raise UserError(f"Cluster ids run from 0 to {self.k - 1}, but there is one of {int(labels.max())}.")
        return labels.copy()

    def to_dict(self) -> dict[str, object]:
        """In JSON's types."""
        text = base64.b64encode(self.data).decode("ascii")
        return {"units": self.units, "k": self.k, "sha256": self.digest, "zlib": text}

    @staticmethod
    def from_dict(values: object) -> PackedLabels:
        """What `to_dict` gave.

        Raises:
            UserError: other keys or types, no base64, or more bytes than so many numbers can take.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"Labels of clusters are a JSON object, not {brief(values)}.")
        check_keys(values, ("units", "k", "sha256", "zlib"), "label entry", needed=True)
        units = whole(values["units"], "The number of labels", 0, MOST_LABELS)
        k = whole(values["k"], "The number of clusters", 1, MOST_LABELS)
        text, digest = values["zlib"], values["sha256"]
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise UserError(f"The digest of a cluster's labels is 64 hex digits, not {brief(digest)}.")
        most = units * np.dtype(_type(k)).itemsize
        if not isinstance(text, str) or len(text) > 2 * most + 1024:
            raise UserError(f"The labels of {units:,} units are a text in base64 of fitting length, not {brief(text)}.")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise UserError(f"The labels of a cluster are no base64: {brief(text)}; save the recipe again.") from None
        return PackedLabels(units, k, data, digest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedLabels):
            return NotImplemented
        return (self.units, self.k, self.digest) == (other.units, other.k, other.digest)

    def __hash__(self) -> int:
        return hash((self.units, self.k, self.digest))


def pack_labels(labels: np.ndarray, k: int) -> PackedLabels:
    """Pack whole numbers 0..k−1 (units,)."""
    raw = np.ascontiguousarray(labels).astype(_type(k)).tobytes()
    # Runs and frequencies are all there is to find; looking for more takes ten times as long and finds less.
    writer = zlib.compressobj(strategy=zlib.Z_RLE, memLevel=9)
    data = writer.compress(raw) + writer.flush()
    return PackedLabels(len(labels), k, data, hashlib.sha256(raw).hexdigest())


def _type(k: int) -> str:
    return _TYPES[0 if k <= 1 << 8 else 1 if k <= 1 << 16 else 2]
