"""What pruning makes of a model: its layers, the plan behind them, and what they are predicted to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.pruned_layers import PrunedLayers
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import PlanReport


@dataclass(frozen=True, eq=False)
class PrunedModel:
    """A pruned model on top of the dense one, whose weights are only read.

    `with pruned:` runs `model.pipeline` pruned for as long as the block lasts.

    Attributes:
        model: the dense model.
        plan: what every layer loses, and in which groups.
        layers: layer → pruned layer, in the model's order, see `PrunedLayers`.
        report: exact counts and predicted damage.
        seconds: how long pruning took, without what was known before.
    """

    model: Model
    plan: PruningPlan
    layers: Mapping[str, PrunedLayer]
    report: PlanReport
    seconds: float = 0.0
    _running: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", PrunedLayers(self.layers))

    @property
    def recipe(self) -> Recipe:
        """What the model was pruned by, without layers set by hand; `plan.as_recipe()` has those too."""
        return self.plan.recipe

    @cached_property
    def masks(self) -> Mapping[str, Tensor]:
        """Layer → bool (d_out, d_in), True = kept; unpacked whenever one is asked for."""
        return _Of(self.layers, lambda layer: layer.mask.unpack())

    @cached_property
    def packed_masks(self) -> Mapping[str, PackedMask]:
        """Layer → mask, a bit a weight."""
        return _Of(self.layers, lambda layer: layer.mask)

    @property
    def nbytes(self) -> int:
        """Bytes of all masks and new values that are made by now."""
        return sum(layer.nbytes for layer in self.layers.made.values())

    def make_masks(self, progress: Progress | None = None) -> None:
        """Make the masks that have waited until now.

        Args:
            progress: called before every layer; may raise `Cancelled`.
        """
        waiting = self.layers.keys() - self.layers.made.keys()
        for done, name in enumerate(name for name in self.layers if name in waiting):
            if progress:
                progress(done, len(waiting), f"Masking {name}")
            _ = self.layers[name]

    def __enter__(self) -> PrunedModel:
        self._running.enter_context(running_pruned(self.model, self.layers))
        return self

    def __exit__(self, *problem: object) -> None:
        self._running.pop_all().close()


Part = TypeVar("Part")


class _Of(Mapping[str, Part]):
    """A part of every layer, taken whenever it is asked for."""

    def __init__(self, layers: Mapping[str, PrunedLayer], part: Callable[[PrunedLayer], Part]) -> None:
        self._layers, self._part = layers, part

    def __getitem__(self, name: str) -> Part:
        return self._part(self._layers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
