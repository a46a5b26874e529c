"""Predicted damage: the share of a layer's output energy that a mask removes. Needs no forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.clustering.units import count_units, sum_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.row_pieces import row_pieces
from dit_prune_viz.pipelines.float64 import float64_capable


class Labelled(Protocol):
    """A cluster id for every unit: `Clusters` or a `ClusterPlan`."""

    @property
    def unit(self) -> str: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def k(self) -> int: ...


@dataclass(frozen=True)
class ClusterDamage:
    """One cluster under a mask.

    Attributes:
        id: of the cluster.
        units: rows, columns or weights in it.
        weights: weights in it.
        sparsity: the share of them that is pruned, as achieved; 0 for an empty cluster.
        damage: its pruned energy ÷ the energy of the whole layer, so that the damages of all clusters add up to the
            layer's.
        energy: its energy ÷ the energy of the whole layer, the most it can cost.
    """

    id: int
    units: int
    weights: int
    sparsity: float
    damage: float
    energy: float


def damage(weight: Tensor, mean_square: Tensor, mask: Tensor) -> float:
    """Σ pruned W_ij²·E[x_j²] / Σ W_ij²·E[x_j²], the share of output energy removed if the inputs are independent.

    Args:
        weight: (d_out, d_in), only read.
        mean_square: E[x_j²] of the inputs (d_in,), in any unit.
        mask: (d_out, d_in) bool, True = kept.

    Returns:
        0 (nothing lost) to 1, computed in float64; 0 where the layer has no energy.
    """
    energy = _energy(weight, mean_square)
    total = float(energy.sum())
    return float(energy.masked_fill_(mask.to(energy.device), 0).sum()) / total if total else 0.0


def damage_second_moment(weight: Tensor, hessian: Tensor, mask: Tensor, update: Tensor | None = None) -> float:
    """tr(ΔW·H·ΔWᵀ) / tr(W·H·Wᵀ): the damage on full second moments, so that correlated inputs count as they are.

    With independent inputs and no update it is `damage`. An update that makes up for what is pruned lowers it; a bad
    one may lift it above 1.

    Args:
        weight: W (d_out, d_in), only read.
        hessian: Σ X_tᵀX_t of the inputs (d_in, d_in), in any unit.
        mask: (d_out, d_in) bool, True = kept.
        update: updated weights (d_out, d_in), which the mask cuts too; None leaves the kept ones as they are. ΔW is
            what the layer loses.

    Returns:
        The share, computed in float64; 0 where the layer has no energy.

    Raises:
        UserError: shapes that do not match.
    """
    d_out, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in) or tuple(mask.shape) != (d_out, d_in):
        raise UserError(
            f"A Hessian of shape {tuple(hessian.shape)} and a mask of shape {tuple(mask.shape)} do not belong to "
            f"weights of shape {(d_out, d_in)}; calibrate the model that is loaded."
        )
    dense = float64_capable(weight).to(torch.float64)
    moments = float64_capable(hessian).to(dense)
    kept = (dense if update is None else float64_capable(update).to(dense)).masked_fill(~mask.to(dense.device), 0)
    lost = dense - kept
    total = float(((dense @ moments) * dense).sum())
    return float(((lost @ moments) * lost).sum()) / total if total else 0.0


def cluster_damage(weight: Tensor, mean_square: Tensor, mask: Tensor, clusters: Labelled) -> tuple[ClusterDamage, ...]:
    """The figures of every cluster of a layer under a mask.

    Args:
        weight: as in `damage`.
        mean_square: as in `damage`.
        mask: as in `damage`.
        clusters: of the layer.

    Returns:
        One entry per cluster, in order of ids.

    Raises:
        UserError: the clusters belong to a layer of another shape.
    """
    shape = tuple(weight.shape)
    if len(clusters.labels) != count_units(shape, clusters.unit):
        raise UserError("The clusters were made for a layer of another shape; cluster again.")

    def per_cluster(table: Tensor) -> np.ndarray:
        return np.bincount(clusters.labels, weights=sum_units(table, clusters.unit), minlength=clusters.k)

    energy = _energy(weight, mean_square)
    cut = ~mask.to(energy.device)
    units = np.bincount(clusters.labels, minlength=clusters.k)
    weights = units * (weight.numel() // len(clusters.labels))
    removed = per_cluster(cut)
    share, lost = per_cluster(energy), per_cluster(energy * cut)
    total = share.sum() or 1.0
    return tuple(
        ClusterDamage(
            id=i,
            units=int(units[i]),
            weights=int(weights[i]),
            sparsity=float(removed[i] / weights[i]) if weights[i] else 0.0,
            damage=float(lost[i] / total),
            energy=float(share[i] / total),
        )
        for i in range(clusters.k)
    )


def _energy(weight: Tensor, mean_square: Tensor) -> Tensor:
    """W_ij²·E[x_j²], float64 (d_out, d_in)."""
    weight = float64_capable(weight)
    energy = torch.empty(weight.shape, dtype=torch.float64, device=weight.device)
    square = mean_square.detach().to(energy)
    for part, of in row_pieces(energy, weight):
        part.copy_(of).square_().mul_(square)
    return energy
