"""Draws and scores the prompts of one cell after another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.dense_pictures import DenseStore
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.processes import Alone
from dit_prune_viz.experiments.requests import requests_for
from dit_prune_viz.experiments.scores import Scored, joined, score
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.steps import Denoised
from dit_prune_viz.pruning.pruned_model import PrunedModel


@dataclass
class CellDrawer:
    """Draws and scores the prompts of one cell after another, and counts the work."""

    model: Model
    experiment: Experiment
    clip: ClipScorer | None
    store: DenseStore
    batch: int
    turn: Callable[[], AbstractContextManager]
    processes: Alone
    progress: Progress | None
    cells: int
    done: int = 0

    @property
    def total(self) -> int:
        return self.cells * len(self.experiment.prompts)

    def aside(self, done: int, total: int, what: str) -> None:
        """Work between the pictures: the count stands still, but it can be cancelled."""
        if self.progress:
            self.progress(self.done, self.total, f"{what} ({done} of {total})")

    def draw(self, pruned: PrunedModel | None, what: str, seed: int) -> Scored:
        prompts = self.experiment.prompts
        requests = requests_for(self.model, prompts, seed, self.experiment.drawing(self.model))
        batches = [requests[start : start + self.batch] for start in range(0, len(requests), self.batch)]
        parts, before = [], self.done
        mine = self.processes.share(batches)
        for place, asked in enumerate(mine):
            span = before + len(prompts) * place / len(mine), len(prompts) / len(mine)
            with self.turn():
                parts.append(self._batch(asked, pruned, f"{what}, seed {seed}", *span))
        self.done = before + len(prompts)
        return joined(self.processes.gather(parts))

    def _batch(self, asked, pruned: PrunedModel | None, what: str, start: float, length: float):
        def step(done: Denoised) -> None:
            self.done = int(start + length * done.index / done.steps)
            if self.progress:
                self.progress(self.done, self.total, f"{what}: step {done.index} of {done.steps}")

        dense = self.store.pictures(asked, step)
        drawn = dense
        if pruned is not None:
            drawn = draw_batch(self.model, asked, layers=pruned.layers, on_step=step)
        return score(self.model, dense, drawn, asked, self.clip)
