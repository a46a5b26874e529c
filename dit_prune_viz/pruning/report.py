"""What a plan's masks cost: counts and predicted damage, per layer and in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.groups import removed_in_layer
from dit_prune_viz.masks.packed_mask import PackedMask

if TYPE_CHECKING:
    from dit_prune_viz.masks.damage_curve import DamageCurve
    from dit_prune_viz.masks.layer_plan import LayerPlan
    from dit_prune_viz.pruning.plan import PruningPlan


@dataclass(frozen=True)
class LayerReport:
    """One layer under its mask; its sparsity is the achieved share of pruned weights, its damage `plan.damage`.

    estimated: whether the damage was read off a curve before the mask was there; the counts are exact in any case.
    """

    name: str
    granularity: str
    g_out: float
    weights: int
    removed: int
    damage: float
    estimated: bool = False

    @property
    def sparsity(self) -> float:
        return self.removed / self.weights


@dataclass(frozen=True)
class PlanReport:
    """All layers under their masks.

    target: the plan's sparsity. parameters: the parameters `remaining` is counted from: the whole transformer's where
    they were given, else the prunable weights.
    """

    target: float
    parameters: int
    layers: tuple[LayerReport, ...]

    @property
    def weights(self) -> int:
        """The prunable weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def removed(self) -> int:
        """The weights that are pruned."""
        return sum(layer.removed for layer in self.layers)

    @property
    def achieved(self) -> float:
        """The share of prunable weights that are pruned, exactly."""
        return self.removed / self.weights if self.weights else 0.0

    @property
    def remaining(self) -> int:
        """The parameters that are left."""
        return self.parameters - self.removed

    @property
    def damage(self) -> float:
        """The layers' predicted damage, averaged by their number of weights.

        Energies of different layers are not comparable, so they are not summed over layers.
        """
        return sum(layer.damage * layer.weights for layer in self.layers) / self.weights if self.weights else 0.0

    @property
    def estimated(self) -> bool:
        """Whether the damage of any layer was estimated."""
        return any(layer.estimated for layer in self.layers)

    def with_layer(self, report: LayerReport) -> PlanReport:
        """The same report with one layer's replaced."""
        return replace(self, layers=tuple(report if layer.name == report.name else layer for layer in self.layers))


def report_layer(layer_plan: LayerPlan, mask: PackedMask, weight: Tensor, mean_square: Tensor) -> LayerReport:
    """One layer's counts and damage, from its weight (d_out, d_in) and mean squared inputs E[x_j²] (d_in,)."""
    return LayerReport(
        name=layer_plan.name,
        granularity=layer_plan.granularity,
        g_out=layer_plan.g_out,
        weights=mask.weights,
        removed=mask.removed,
        damage=damage(weight, mean_square, mask.to(weight.device).unpack()),
    )


def estimate_layer(layer_plan: LayerPlan, shape: tuple[int, int], curve: DamageCurve) -> LayerReport:
    """One layer's exact counts and estimated damage before there is a mask; for a layer without clusters."""
    granularity, weights = layer_plan.granularity, shape[0] * shape[1]
    removed = layer_plan.count
    if removed is None:
        removed = removed_in_layer(shape, granularity, layer_plan.sparsity)
    damage = curve.damage(removed)
    return LayerReport(layer_plan.name, granularity, layer_plan.g_out, weights, removed, damage, estimated=True)


def summarize(
    plan: PruningPlan,
    masks: Mapping[str, PackedMask],
    weight: Callable[[str], Tensor],
    mean_square: Callable[[str], Tensor],
    *,
    parameters: int | None = None,
) -> PlanReport:
    """The report of a plan and its masks, layers in the plan's order.

    `weight(name)` gives a layer's weights (d_out, d_in), `mean_square(name)` E[x_j²] of its inputs (d_in,), and
    `parameters` is the number of the whole transformer's, from which `remaining` is counted.
    """
    layers = tuple(
        report_layer(layer_plan, masks[name], weight(name), mean_square(name))
        for name, layer_plan in plan.layers.items()
    )
    prunable = sum(layer.weights for layer in layers)
    return PlanReport(plan.recipe.sparsity, prunable if parameters is None else parameters, layers)
