"""Updated weights between two comparisons."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping

from dit_prune_viz.masks.pruned_layer import UpdatedWeights

SHELF_BYTES = 1 << 30


class UpdateShelf:
    """Updated weights by everything that decides them. A layer that has no update is remembered as None.

    What was used longest ago goes once the whole exceeds `most` bytes, but never what was put or found last together:
    the update of one plan always fits.
    """

    def __init__(self, most: int = SHELF_BYTES) -> None:
        self._most = most
        self._entries: OrderedDict[Hashable, UpdatedWeights | None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, keys: Mapping[str, Hashable]) -> dict[str, UpdatedWeights | None]:
        """Layer → update, of the layers whose key is known."""
        with self._lock:
            found = {layer: self._entries[key] for layer, key in keys.items() if key in self._entries}
            for layer in found:
                self._entries.move_to_end(keys[layer])
        return found

    def put(self, keys: Mapping[str, Hashable], made: Mapping[str, UpdatedWeights | None]) -> None:
        """Remember `made` (layer → update); `keys` are those of the whole plan, which stays."""
        with self._lock:
            for layer, update in made.items():
                self._entries[keys[layer]] = update
            used, staying = sum(map(_nbytes, self._entries.values())), set(keys.values())
            for key in [key for key in self._entries if key not in staying]:
                if used <= self._most:
                    break
                used -= _nbytes(self._entries.pop(key))


def _nbytes(update: UpdatedWeights | None) -> int:
    return 0 if update is None else update.nbytes
