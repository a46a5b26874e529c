"""Measured sensitivities kept on disk by inputs and masks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import torch

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache, content_key
from dit_prune_viz.masks.packed_mask import PackedMask

VERSION = 2
"""Raised whenever the same masks would be measured differently."""


class StoredFigures:
    """What was measured on the same held-out inputs before, and what is new.

    Args:
        statistics: of the model; its disk cache, if it has one, holds one entry for these inputs.
        samples: how many held-out inputs.
    """

    def __init__(self, statistics: Statistics, samples: int) -> None:
        self._disk = statistics.disk
        parts = statistics.model.signature, statistics.calibration.key, samples
        self._key = content_key("sensitivity", VERSION, *parts)
        self._known = _read(self._disk, self._key) if self._disk else {}

    def get(self, masks: Mapping[str, PackedMask], measure: Callable[[Mapping[str, PackedMask]], float]) -> float:
        """The figure of layers with these masks and all others dense, measured if it is not known."""
        place = place_of(masks)
        if place not in self._known:
            self._known[place] = measure(masks)
        return self._known[place]

    def keep(self) -> None:
        """Write all figures that are known now."""
        if self._disk:
            errors = torch.tensor(list(self._known.values()), dtype=torch.float64)
            self._disk.put(self._key, {"errors": errors}, {"masks": list(self._known)})


def place_of(masks: Mapping[str, PackedMask]) -> tuple[str, str]:
    """What a figure is kept by: the layers' names, and a digest of their masks."""
    digests = [mask.digest for mask in masks.values()]
    together = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return "\n".join(masks), together


def _read(disk: DiskCache, key: str) -> dict[tuple[str, str], float]:
    entry = disk.find(key)
    if entry is None:
        return {}
    return dict(zip(map(tuple, entry.about["masks"]), entry.tensors["errors"].tolist(), strict=True))
