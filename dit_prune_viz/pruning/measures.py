"""What planning asks of a model's layers, measured once: G_out, and what removing weights costs."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.caching import Cache
from dit_prune_viz.disk_cache import DiskCache, content_key, kept
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.damage_curve import DamageCurve, damage_curve
from dit_prune_viz.methods.allocation.cost import LayerCost, weighing
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity

_WORKERS = 4
"""Layers that are measured at once, at most: each holds its scores."""

VERSION = 1
"""Raised whenever the same scores would be measured differently."""


class Measures:
    """Measures layers by their scores and remembers it: no sparsity changes it, so the next plan reads no weight.

    Args:
        weight: layer → (d_out, d_in), only read, one layer at a time.
        scores: layer → scores (d_out, d_in) float32, only read.
        mean_square: layer → E[x_j²] (d_in,) of its inputs.
        cache: remembers; None remembers as long as this object lives.
        basis: all that scores and mean squares follow from, beside the model that owns the cache.
        disk: keeps beyond this process what took long.
        content: model and basis in JSON's types, for the disk; None keeps nothing there.
    """

    def __init__(
        self,
        weight: Callable[[str], Tensor],
        scores: Callable[[str], Tensor],
        mean_square: Callable[[str], Tensor],
        cache: Cache | None = None,
        basis: tuple = (),
        *,
        disk: DiskCache | None = None,
        content: Sequence[object] | None = None,
    ) -> None:
        self._weight, self._scores, self._mean_square = weight, scores, mean_square
        self._cache = Cache(sys.maxsize) if cache is None else cache
        self._basis, self._content = basis, content
        self._disk = disk if content is not None else None

    def g_out(self, layers: Sequence[str], progress: Progress | None = None) -> dict[str, float]:
        """Layer → G_out.

        Args:
            layers: their names.
            progress: called before every layer that is not known yet; may raise `Cancelled`.

        Raises:
            UserError: whatever `scores` refuses.
        """

        def make(missing: Sequence[str]) -> dict[str, Tensor]:
            steps = _told("Scoring", missing, progress)
            return {name: torch.tensor(heterogeneity(self._scores(name)), dtype=torch.float64) for name in steps}

        return self._known("heterogeneity", dict.fromkeys(layers, ()), make, lambda _, found: float(found))

    def costs(
        self, granularity: Mapping[str, str], *, outlier_level: float = 5.0, progress: Progress | None = None
    ) -> dict[str, LayerCost]:
        """Layer → what removing weights costs it, with a weight of 1.

        Args:
            granularity: layer → the groups it is ranked in.
            outlier_level: see `LayerCost`.
            progress: as in `g_out`.

        Raises:
            UserError: whatever `scores` refuses.
        """

        def read(name: str) -> Callable[[], Tensor]:
            tables = self._scores(name), self._weight(name), self._mean_square(name)
            step = weighing(name, *tables, granularity[name], outlier_level=outlier_level)
            return lambda: _flat(step())

        def make(missing: Sequence[str]) -> dict[str, Tensor]:
            return _in_turns(read, _told("Weighing", missing, progress))

        wanted = {name: (groups, outlier_level) for name, groups in granularity.items()}
        return self._known("costs", wanted, make, _cost)

    def curves(self, granularity: Mapping[str, str], progress: Progress | None = None) -> dict[str, DamageCurve]:
        """Layer → its predicted damage over the number of weights that go.

        Args:
            granularity: layer → the groups it is ranked in.
            progress: as in `g_out`.

        Raises:
            UserError: whatever `scores` refuses.
        """

        def read(name: str) -> Callable[[], Tensor]:
            return partial(_curve, self._scores(name), self._weight(name), self._mean_square(name), granularity[name])

        def make(missing: Sequence[str]) -> dict[str, Tensor]:
            return _in_turns(read, _told("Predicting the damage of", missing, progress))

        wanted = {name: (groups,) for name, groups in granularity.items()}
        return self._known("curves", wanted, make, lambda _, flat: DamageCurve(flat[0].long().numpy(), flat[1].numpy()))

    def _known(
        self,
        what: str,
        wanted: Mapping[str, tuple],
        make: Callable[[Sequence[str]], Mapping[str, Tensor]],
        value: Callable[[str, Tensor], Any],
    ) -> dict[str, Any]:
        """Layer → value, by the settings with which each is wanted; `make` gives those that nobody has made before."""
        keys = {name: (what, self._basis, name, *settings) for name, settings in wanted.items()}
        found = {name: self._cache.find(key) for name, key in keys.items()}
        missing = [name for name in found if found[name] is None]
        if missing:
            asked = [[name, *wanted[name]] for name in missing]
            key = content_key(what, VERSION, self._content, asked) if self._disk else ""
            made = kept(self._disk, key, lambda: make(missing))
            found |= {name: value(name, made[name]) for name in missing}
            self._cache.put_all({keys[name]: found[name] for name in missing})
        return found


def _told(what: str, layers: Sequence[str], progress: Progress | None) -> Iterator[str]:
    for done, name in enumerate(layers):
        if progress:
            progress(done, len(layers), f"{what} {name}")
        yield name


def _in_turns(read: Callable[[str], Callable[[], Tensor]], layers: Iterable[str]) -> dict[str, Tensor]:
    """Layer → what comes of the step that `read` returns for it.

    Steps are done in other threads while the next layer is read; few wait at a time, because each holds its tables.
    """
    threads = min(torch.get_num_threads(), _WORKERS)
    waiting, made = deque[tuple[str, Future[Tensor]]](), {}
    with ThreadPoolExecutor(threads) as pool:
        for name in layers:
            waiting.append((name, pool.submit(read(name))))
            if len(waiting) >= threads:
                done, step = waiting.popleft()
                made[done] = step.result()
        return made | {name: step.result() for name, step in waiting}


def _curve(scores: Tensor, weight: Tensor, mean_square: Tensor, granularity: str) -> Tensor:
    """float64 (2, p): the counts and damages of a `DamageCurve`."""
    found = damage_curve(scores, weight, mean_square, granularity)
    return torch.from_numpy(np.stack([found.removed.astype(np.float64), found.lost]))


def _flat(cost: LayerCost) -> Tensor:
    """All numbers of a cost whose weight is 1, float64 (4p + 6,)."""
    numbers = cost.weights, cost.mean_score, cost.outlier_share, cost.outlier_level
    curves = cost.removed, cost.lost, cost.scores, cost.energies
    return torch.from_numpy(np.concatenate([numbers, *curves]).astype(np.float64))


def _cost(name: str, flat: Tensor) -> LayerCost:
    """The cost that `_flat` made it of."""
    weights, mean, share, level, *_ = flat[:4].tolist()
    p = (len(flat) - 6) // 4
    removed, lost, scores, energies = np.split(flat.numpy()[4:], [p + 1, 2 * p + 2, 3 * p + 2])
    counts = removed.astype(np.int64)
    return LayerCost(name, int(weights), counts, lost, scores, energies, mean, share, level)
