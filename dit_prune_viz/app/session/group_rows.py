"""What groups of layers hold, cost and weigh, and how their damage grows with their sparsity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dit_prune_viz.app.session import layer_data, packed
from dit_prune_viz.app.session.layer_groups import groups_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.float64 import float64_capable
from dit_prune_viz.pruning.curves import POINTS
from dit_prune_viz.pruning.limits import find_limits
from dit_prune_viz.pruning.scores import Scores

_SAMPLE = 1 << 18
"""Weights of a layer that its energy is told from, in evenly spaced rows; smaller layers are summed up whole."""


@dataclass(frozen=True)
class GroupRow:
    """One group of layers under the present masks.

    Attributes:
        id: of the group.
        layers: how many it has.
        weights: in them.
        removed: how many of these are pruned.
        share: weights ÷ all prunable weights of the model.
        energy: Σ W²·E[x²] of its layers ÷ that of all layers.
        damage: its part of the model's predicted damage: damages of layers count by their weights, so that those of all
            groups add up to the model's.
        packed: bytes of its layers in the packed format; None where they are not known.
        fixed: weights in layers that the recipe keeps dense or prunes N:M, and how many of these are pruned.
        curve: its damage with the other layers at evenly spaced sparsities from 0 to 1; None where there are none.
    """

    id: int
    layers: int
    weights: int
    removed: int
    share: float
    energy: float
    damage: float
    packed: float | None
    fixed: tuple[int, int]
    curve: tuple[float, ...] | None

    @property
    def sparsity(self) -> float:
        """The share of its weights that are pruned, in layers whose sparsity can be set; else in all of them."""
        weights, removed = self.weights - self.fixed[0], self.removed - self.fixed[1]
        return removed / weights if weights else self.removed / self.weights


def group_rows(session: Session) -> tuple[GroupRow, ...]:
    """The figures of every group, in order of ids. UserError without a plan."""
    plan, groups = session.need_plan()[2], groups_of(session)
    layers, reports = session.model.layers, {one.name: one for one in session.report.layers}
    dense = find_limits(plan.recipe.ignore, (), layers).dense
    known = [reports[layer.name] for layer in layers]
    weights = np.array([one.weights for one in known], dtype=np.int64)
    removed = np.array([one.removed for one in known], dtype=np.int64)
    costs = np.array([one.damage * one.weights for one in known]) / weights.sum()
    fixed = np.array([one.name in dense or bool(n_of_m(one.granularity)) for one in known])
    energies = _energies(session)
    sizes = packed.by_layer(session)
    free = [layer.name for layer, still in zip(layers, fixed, strict=True) if not still]
    curves = _curves(session, free) * (weights[~fixed] / weights.sum())[:, None]

    def row(group: int, inside: np.ndarray) -> GroupRow:
        still, own = inside & fixed, curves[inside[~fixed]]
        names = [layer.name for layer, has in zip(layers, inside, strict=True) if has]
        return GroupRow(
            group,
            len(names),
            int(weights[inside].sum()),
            int(removed[inside].sum()),
            float(weights[inside].sum() / weights.sum()),
            float(energies[inside].sum()),
            float(costs[inside].sum()),
            None if sizes is None else sum(sizes[name] for name in names),
            (int(weights[still].sum()), int(removed[still].sum())),
            tuple((own.sum(0) + costs[still].sum()).tolist()) if len(own) else None,
        )

    return tuple(row(group, groups.labels == group) for group in range(groups.k))


def layer_energy(weight: Tensor, mean_square: Tensor) -> float:
    """A layer's energy Σ W_ij²·E[x_j²], that of a large layer told from a sample of its rows."""
    some = weight[:: max(1, weight.numel() // _SAMPLE)].float()
    energies = some.square() @ mean_square.to(some)
    return len(weight) / len(some) * float(float64_capable(energies).double().sum())


def _energies(session: Session) -> np.ndarray:
    """The share of every layer in the energy of all, (layers,)."""
    model = session.need_model()

    def make() -> np.ndarray:
        found = np.array([layer_energy(weight, session.mean_square(layer.name)) for layer, weight in model.weights()])
        return found / (found.sum() or 1.0)

    key = session.calibration.key, session.recipe.centred, model.also_prune
    return layer_data.cached(session, "layer energies", key, make)


def _curves(session: Session, layers: list[str]) -> np.ndarray:
    """Predicted damage of every layer over its sparsity, (layers, points)."""
    plan = session.plan
    measures = Scores(plan.recipe, session.statistics).measures("uniform")
    found = measures.curves({name: plan.layers[name].granularity for name in layers})
    at = np.linspace(0, 1, POINTS)
    curves = [np.interp(at * curve.removed[-1], curve.removed, curve.lost) for curve in found.values()]
    return np.array(curves).reshape(-1, POINTS)
