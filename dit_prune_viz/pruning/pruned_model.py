"""What pruning makes of a model: its layers, the plan behind them, and what they are predicted to cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
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
        layers: layer → pruned layer, in the model's order.
        report: exact counts and predicted damage.
        seconds: how long pruning took, without what was known before.
    """

    model: Model
    plan: PruningPlan
    layers: Mapping[str, PrunedLayer]
    report: PlanReport
    seconds: float = 0.0
    _running: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    @property
    def recipe(self) -> Recipe:
        """What the model was pruned by."""
        return self.plan.recipe

    @cached_property
    def masks(self) -> Mapping[str, Tensor]:
        """Layer → bool (d_out, d_in), True = kept; unpacked whenever one is asked for."""
        return _Masks(self.layers)

    @cached_property
    def packed_masks(self) -> Mapping[str, PackedMask]:
        """Layer → mask, a bit a weight."""
        return {name: layer.mask for name, layer in self.layers.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all masks and new values."""
        return sum(layer.nbytes for layer in self.layers.values())

    def __enter__(self) -> PrunedModel:
        self._running.enter_context(running_pruned(self.model, self.layers))
        return self

    def __exit__(self, *problem: object) -> None:
        self._running.pop_all().close()


class _Masks(Mapping[str, Tensor]):
    def __init__(self, layers: Mapping[str, PrunedLayer]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> Tensor:
        return self._layers[name].mask.unpack()

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
