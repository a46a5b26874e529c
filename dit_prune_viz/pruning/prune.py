"""From a candidate and a sparsity to masks, updated weights and their report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import UpdatedWeights
from dit_prune_viz.methods.search.distil import distil_masks
from dit_prune_viz.methods.update.tune import tune_weights
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.candidates import Candidate
from dit_prune_viz.pruning.levels import Level
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.report import PlanReport, summarize
from dit_prune_viz.pruning.supplies import Supplies
from dit_prune_viz.pruning.update_model import check_update, update_model


@dataclass(frozen=True, eq=False)
class Pruned:
    """plan, masks and report of a pruned model; updates: layer → updated weights, empty for masks only.

    seconds: how long it took, calibration and what an earlier candidate left in the supplies excluded.
    """

    plan: PruningPlan
    masks: Mapping[str, PackedMask]
    report: PlanReport
    seconds: float
    updates: Mapping[str, UpdatedWeights] = field(default_factory=dict)


def prune(
    candidate: Candidate,
    model: Model,
    calibration: Calibration,
    level: Level,
    *,
    supplies: Supplies | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Prune `model` the way of `candidate` to `level`; the model stays as it is.

    supplies: of the same model and calibration, to share Hessians and sensitivities between candidates. UserError for
    a setting that does not exist, and whatever planning, masking and updating refuse.
    """
    supplies = supplies or Supplies(model, calibration, progress)
    start = time.perf_counter()
    plan, masks, report = mask_model(candidate, supplies, level, progress=progress)
    updates = update_masked(candidate, supplies, masks, plan=plan, progress=progress)
    if candidate.searches:
        masks = {name: updates[name].mask if name in updates else mask for name, mask in masks.items()}
        report = _report(candidate, supplies, plan, masks)
        updates = updates if candidate.update else {}
    return Pruned(plan, masks, report, time.perf_counter() - start, updates)


def mask_model(
    candidate: Candidate, supplies: Supplies, level: Level, *, progress: Progress | None = None
) -> tuple[PruningPlan, dict[str, PackedMask], PlanReport]:
    """Plan, masks and report of the candidate at `level`; its update is left aside. UserError as in `prune`."""
    check_update(candidate.update)
    plan = _plan(candidate, supplies, level, progress)
    masks = _masks(candidate, supplies, plan, progress)
    return plan, masks, _report(candidate, supplies, plan, masks)


def _report(candidate: Candidate, supplies: Supplies, plan: PruningPlan, masks: Mapping[str, PackedMask]) -> PlanReport:
    model = supplies.model
    lost = supplies.mean_square("uniform", centred=candidate.centred)
    return summarize(plan, masks, model.weight, lost, parameters=model.parameters)


def update_masked(
    candidate: Candidate,
    supplies: Supplies,
    masks: Mapping[str, PackedMask],
    *,
    plan: PruningPlan,
    progress: Progress | None = None,
) -> dict[str, UpdatedWeights]:
    """The candidate's weight update for these masks of `plan`, with masks of its own where the candidate searches for
    better ones; empty for a candidate that does neither. UserError as in `update_model`, `distil_masks` and
    `tune_weights`."""
    if not candidate.learns:
        return _updates(candidate, supplies, masks, plan, progress) if candidate.update or candidate.exchange else {}
    if candidate.exchange:
        swapped = _updates(replace(candidate, update=candidate.update and "mean"), supplies, masks, plan, progress)
        masks = {name: swapped[name].mask if name in swapped else mask for name, mask in masks.items()}
    steps, tuning = candidate.distil, candidate.tuning
    examples = supplies.examples(steps + tuning)
    # Weights learn from calls that the masks have not: what fits those already says nothing about others.
    first, second = examples.split(steps, tuning) if steps and tuning else (examples, examples)
    mean = supplies.mean(candidate.timestep) if candidate.update else None
    weights = supplies.weights(candidate.timestep)
    if candidate.distil:
        masks = distil_masks(
            supplies.model,
            plan,
            masks,
            first,
            norm=supplies.norm(candidate.timestep, centred=bool(candidate.update)),
            mean=mean,
            timestep=weights,
            steps=steps,
            progress=progress,
        )
    found = {name: UpdatedWeights(None, mask) for name, mask in masks.items()}
    if tuning:
        return found | tune_weights(
            supplies.model, masks, second, mean=mean, timestep=weights, steps=tuning, progress=progress
        )
    if not candidate.update:
        return found
    return found | _updates(replace(candidate, exchange=False), supplies, masks, plan, progress)


def _updates(
    candidate: Candidate,
    supplies: Supplies,
    masks: Mapping[str, PackedMask],
    plan: PruningPlan,
    progress: Progress | None,
) -> dict[str, UpdatedWeights]:
    replayed = candidate.update != "mean" or candidate.sequential or candidate.exchange
    return update_model(
        supplies.model,
        masks,
        supplies.calibration,
        method=candidate.update,
        timestep=supplies.weights(candidate.timestep) or "uniform",
        sequential=candidate.sequential,
        exchanges=plan if candidate.exchange else None,
        inputs=supplies.inputs if replayed else None,
        progress=progress,
    )


def _plan(candidate: Candidate, supplies: Supplies, level: Level, progress: Progress | None) -> PruningPlan:
    model = supplies.model

    def plan(allocation: str, weights: Mapping[str, float] | None) -> PruningPlan:
        return make_plan(
            model.layers,
            model.weight,
            supplies.norm(candidate.timestep, centred=candidate.centred),
            method=candidate.method,
            granularity=level.pattern or candidate.granularity,
            sparsity=level.sparsity,
            allocation=allocation,
            mean_square=supplies.mean_square(candidate.timestep, centred=candidate.centred),
            sensitivity=weights,
            inverse_hessian=supplies.inverse_hessian(candidate.timestep),
            progress=progress,
        )

    if candidate.allocation == "uniform" or level.pattern:
        return plan("uniform", None)
    weights = None
    if candidate.sensitivity:
        norm = supplies.norm(candidate.timestep, centred=candidate.centred)
        weights = supplies.sensitivity(plan("uniform", None), norm).weights()
    found = plan(candidate.allocation, weights)
    if not candidate.exchange:
        return found
    # A rehearsal: layers whose errors cancel well when weights are exchanged can lose more, so the budget is shared out
    # again with each layer's energy scaled by what its exchange leaves of its error.
    masks = _masks(candidate, supplies, found, progress)
    rehearsed = replace(candidate, distil=0, sequential=False, update=candidate.update and "mean")
    trial = update_masked(rehearsed, supplies, masks, plan=found, progress=progress)
    left = {name: trial[name].left if name in trial else 1.0 for name in masks}
    return plan(candidate.allocation, {name: value * (weights or {}).get(name, 1.0) for name, value in left.items()})


def _masks(
    candidate: Candidate, supplies: Supplies, plan: PruningPlan, progress: Progress | None
) -> dict[str, PackedMask]:
    return build_masks(
        plan,
        supplies.model.weight,
        supplies.norm(candidate.timestep, centred=candidate.centred),
        inverse_hessian=supplies.inverse_hessian(candidate.timestep),
        progress=progress,
    )
