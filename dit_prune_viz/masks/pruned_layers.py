"""The pruned layers of a model, which may wait until something asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from dit_prune_viz.masks.pruned_layer import PrunedLayer


class PrunedLayers(Mapping[str, PrunedLayer]):
    """Pruned layers by name, in the model's order; cannot be changed.

    Args:
        layers: layer → pruned layer, or what makes it when it is first asked for. What is made is kept, and shared with
            all mappings that came from this one.
    """

    __slots__ = ("_cells",)

    def __init__(self, layers: Mapping[str, PrunedLayer | Callable[[], PrunedLayer]]) -> None:
        own = layers._cells if isinstance(layers, PrunedLayers) else layers
        self._cells = {name: one if isinstance(one, _Cell) else _Cell(one) for name, one in own.items()}

    def __getitem__(self, name: str) -> PrunedLayer:
        return self._cells[name].layer()

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def made(self) -> dict[str, PrunedLayer]:
        """Those that are there by now."""
        return {name: cell.made for name, cell in self._cells.items() if cell.made is not None}

    def changed(self, layers: Mapping[str, PrunedLayer | Callable[[], PrunedLayer]]) -> PrunedLayers:
        """The same with some layers replaced; none is made for that."""
        return PrunedLayers({**self._cells, **layers})


class _Cell:
    """One layer, made once, however many threads ask."""

    def __init__(self, layer: PrunedLayer | Callable[[], PrunedLayer]) -> None:
        self.made = layer if isinstance(layer, PrunedLayer) else None
        self._make, self._lock = layer, threading.Lock()

    def layer(self) -> PrunedLayer:
        with self._lock:
            if self.made is None:
                self.made = self._make()
            self._make = None
            return self.made
