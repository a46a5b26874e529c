"""Whether the calibration samples suffice: how much a recipe's masks change with more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import torch

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.calibration.stored import counting_version
from dit_prune_viz.disk_cache import DiskCache, content_key, kept
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.experiments.convergence import SIZES, Convergence, measure_convergence
from dit_prune_viz.formatting import percent
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.prune import layer_sensitivity, rank
from dit_prune_viz.pruning.recipe import Recipe

VERSION = 1
"""Raised whenever the same recipe and sizes would give other figures."""


def find_convergence(
    recipe: Recipe,
    model: Model,
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    statistics: Statistics | None = None,
    disk: DiskCache | None = None,
    progress: Progress | None = None,
) -> Convergence:
    """Calibrate with `sizes` samples, each containing the one before, and compare the masks that the recipe ranks.

    Its searches and its update are left aside.

    Args:
        recipe: how to prune.
        model: its lock is held meanwhile.
        sizes: numbers of samples.
        seed: of the calibration.
        statistics: measure the sensitivities, the same for all sizes, where the recipe weighs layers by them.
        disk: where figures that took long are looked up and kept; those of methods from outside the package are not.
        progress: may raise `Cancelled`.

    Raises:
        UserError: as in `measure_convergence`; a recipe that ranks by Hessians, which the smaller sizes do not collect,
            or that needs sensitivities where there are no statistics.
    """
    ranks_by = recipe.method
    if {"inverse_hessian", "hessian"} & set(ranks_by.needs):
        raise UserError(f"Convergence is measured for scores from input norms; choose another than {ranks_by.label}.")
    recipe = replace(recipe, search=(), update="")  # they take recorded inputs
    if recipe.sensitivity and statistics is None:
        raise UserError("Weighing layers by sensitivity takes a calibrated model; switch it off.")
    sensitivity = layer_sensitivity(recipe, statistics.reporting(progress)) if recipe.sensitivity else None
    errors = None if sensitivity is None else {name: list(found) for name, found in sensitivity.errors.items()}

    def build(calibration: Calibration) -> Mapping[str, PackedMask]:
        return rank(recipe, Statistics(model, calibration), sensitivity=sensitivity).packed_masks

    def measure() -> dict[str, torch.Tensor]:
        found = measure_convergence(model, build, sizes=sizes, seed=seed, progress=progress)
        figures = {"sizes": found.sizes, "changed": found.changed, "to_largest": found.to_largest}
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in figures.items()}

    parts = [recipe.to_json(), recipe.versions, errors, list(sizes), seed]
    counting = [] if counting_version(model) == 1 else [counting_version(model)]  # the first had no part in the name
    key = content_key("convergence", VERSION, model.signature, asdict(model.defaults), *parts, *counting)
    found = kept(disk if all(method.built_in for method in recipe.methods) else None, key, measure)
    sizes_found, changed, to_largest = (found[name].tolist() for name in ("sizes", "changed", "to_largest"))
    return Convergence(tuple(map(int, sizes_found)), tuple(changed), tuple(to_largest))


def convergence_table(found: Convergence) -> str:
    """The figures as a Markdown table, a line per number of samples."""
    lines = ["| samples | weights that differ from the size before | from the largest |", "|---|---|---|"]
    for size, before, largest in zip(found.sizes, (None, *found.changed), found.to_largest, strict=True):
        earlier = "–" if before is None else percent(before)
        lines.append(f"| {size} | {earlier} | {percent(largest)} |")
    return "\n".join(lines)
