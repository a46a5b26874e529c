"""Progress of a command on the terminal."""

from __future__ import annotations

import sys
import time

from dit_prune_viz.experiments.results import Row
from dit_prune_viz.formatting import seconds

_PERIOD = 5.0


def say(sentence: str) -> None:
    """Tell a person something on the terminal at once, apart from what a command answers."""
    print(sentence, file=sys.stderr, flush=True)


class TerminalProgress:
    """Progress and finished cells, a line each, on the terminal."""

    def __init__(self, *, silent: bool, unit: str = "pictures") -> None:
        self._silent, self._unit, self._next = silent, unit, 0.0
        self._stage: tuple[int, int, float] | None = None  # its total, and how far it was when it began, and when
        self._done = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if self._stage is None or self._stage[0] != total or done < self._done:
            self._stage = total, done, now
        self._done = done
        if self._silent or now < self._next:
            return
        self._next = now + _PERIOD
        _, first, start = self._stage
        left = f", about {seconds((now - start) / (done - first) * (total - done))} left" if done > first else ""
        print(f"[{done:,}/{total:,} {self._unit}{left}] {what}", file=sys.stderr, flush=True)

    def row(self, row: Row) -> None:
        if self._silent:
            return
        means = {name: row.mean(name) for name in row.scores}
        scores = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items() if mean is not None)
        print(f"{row.recipe} {row.level} seed {row.seed}: {scores}", flush=True)
