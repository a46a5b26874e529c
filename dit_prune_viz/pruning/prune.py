"""The product's one verb: prune a model by a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dit_prune_viz.calibration.calibrate import Watch, calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.calibration.stored import shipped_calibration
from dit_prune_viz.disk_cache import DiskCache, open_cache
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.error_curve import ErrorCurve
from dit_prune_viz.masks.groups import n_of_m, removed_in_layer
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.scores_to_mask import mask_at
from dit_prune_viz.methods.problem import ModelProblem
from dit_prune_viz.methods.search.base import Search, check_found
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.limits import find_limits
from dit_prune_viz.pruning.make_plan import check_layers, make_plan
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import LayerReport, PlanReport, estimate_layer, report_layer, summarize
from dit_prune_viz.pruning.scores import Scores
from dit_prune_viz.pruning.solve_layers import solve_layers, update_weights
from dit_prune_viz.pruning.stored import are_stored, stored_layers
from dit_prune_viz.sensitivity.measure import measure_sensitivity
from dit_prune_viz.sensitivity.result import Sensitivity

SENSED_INPUTS = 16
"""Held-out inputs, pairs of them under guidance, on which layers are measured that an allocation weighs."""


def prune(
    model: Model,
    recipe: Recipe | str | Path = "dit-pruning",
    *,
    sparsity: float | str | None = None,
    statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> PrunedModel:
    """Prune a model; the dense weights are only read.

    Args:
        model: the dense model.
        recipe: a `Recipe`, the name of one ("distilled-mask", see `NAMED_RECIPES`), a saliency ("stw:1.5,1"), or the
            path of a recipe's JSON file, which is refused if it was made for another model; see `read_recipe`.
        sparsity: share of the prunable weights, 0–1, or N:M such as "2:4"; None leaves it to the recipe. Another one
            than the recipe's leaves out what it sets layer by layer.
        statistics: of the model's inputs, where the model is calibrated already; None calibrates it as the recipe says.
        progress: called with (done, total, what) while something takes long; may raise `Cancelled`.

    Returns:
        The pruned model; `with` runs it.

    Raises:
        UserError: an unknown recipe, a sparsity out of range, and whatever planning, masking and updating refuse.
    """
    recipe = find_recipe(recipe, model)
    if sparsity is not None:
        recipe = recipe.at(sparsity)
    check_layers(recipe, model.layers)
    if statistics is None:
        disk = open_cache()
        statistics = Statistics(model, calibrate_for(model, recipe, progress, disk), disk=disk)
    known = statistics.reporting(progress)
    return finish(rank(recipe, known), known)


def calibrate_for(
    model: Model,
    recipe: Recipe,
    progress: Progress | None = None,
    disk: DiskCache | None = None,
    by: Watch | None = None,
) -> Calibration:
    """The calibration that a recipe asks for, made once while the model's cache holds it.

    Args:
        model: the dense model.
        recipe: says how the inputs are watched.
        progress: may raise `Cancelled`.
        disk: where it is looked up and kept; the bundled model's own comes with the package.
        by: as in `calibrate`.
    """
    settings = recipe.calibration

    def make() -> Calibration:
        plain = settings == CalibrationSettings(samples=settings.samples, seed=settings.seed)
        shipped = shipped_calibration(model, samples=settings.samples, seed=settings.seed) if plain else None
        return shipped or calibrate(model, **vars(settings), progress=progress, cache=disk, by=by)

    return model.cache.get(_calibration_key(recipe), make)


def known_calibration(model: Model, recipe: Recipe) -> Calibration | None:
    """The calibration that a recipe asks for if the model's cache holds it, else None."""
    return model.cache.find(_calibration_key(recipe))


def _calibration_key(recipe: Recipe) -> tuple[str, CalibrationSettings]:
    return "calibration", recipe.calibration


def rank(
    recipe: Recipe, statistics: Statistics, *, sensitivity: Sensitivity | None = None, later: bool = False
) -> PrunedModel:
    """Plan and mask a model by the recipe's scores alone; its searches and its update are left to `finish`.

    Args:
        recipe: how to prune.
        statistics: of the dense model.
        sensitivity: of the layers, where the recipe weighs them by it; None measures it.
        later: whether the masks of a large model, whose scores are not kept, wait until they are asked for. Its report
            then tells estimated damages.

    Raises:
        UserError: as in `prune`.
    """
    start = time.perf_counter()
    plan, parameters = _plan(recipe, statistics, sensitivity), statistics.model.parameters
    layers, reports = _ranked(plan, tuple(plan.layers), statistics, later)
    report = PlanReport(recipe.sparsity, parameters, tuple(reports[name] for name in plan.layers))
    return PrunedModel(statistics.model, plan, layers, report, time.perf_counter() - start)


def rank_again(pruned: PrunedModel, plan: PruningPlan, statistics: Statistics, *, later: bool = False) -> PrunedModel:
    """A ranked model under another plan of the same scores; only layers whose plans have changed are masked anew.

    Args:
        pruned: as `rank` made it, or this function.
        plan: of the same layers.
        statistics: of the dense model.
        later: as in `rank`.
    """
    changed = tuple(name for name, layer in plan.layers.items() if layer is not pruned.plan.layers[name])
    layers, reports = _ranked(plan, changed, statistics, later)
    report = replace(pruned.report, layers=tuple(reports.get(one.name, one) for one in pruned.report.layers))
    return replace(pruned, plan=plan, layers=pruned.layers.changed(layers), report=report)


def _ranked(
    plan: PruningPlan, names: Sequence[str], statistics: Statistics, later: bool
) -> tuple[dict[str, PrunedLayer | Callable[[], PrunedLayer]], dict[str, LayerReport]]:
    """Some layers by the plan's scores, or what makes them, in the order of the names; and what they cost."""
    scores, model = Scores(plan.recipe, statistics), statistics.model
    # How many weights clusters lose is known from their masks alone.
    may_wait = later and not scores.all_kept
    now = [name for name in names if not may_wait or plan.layer(name).clusters is not None]
    masks = build_masks(plan, scores, layers=now, progress=statistics.progress) if now else {}
    layers: dict[str, PrunedLayer | Callable[[], PrunedLayer]] = {name: PrunedLayer(masks[name]) for name in now}
    lost = lambda layer: statistics.mean_square(layer, centred=plan.recipe.centred)  # noqa: E731
    reports = {name: report_layer(plan.layer(name), masks[name], model.weight(name), lost(name)) for name in now}
    quiet = Scores(plan.recipe, statistics.reporting(None))  # whoever asks for a mask has a progress of his own
    groups = {name: plan.layer(name).granularity for name in names if name not in layers}
    for name, curve in scores.measures("uniform").curves(groups, statistics.progress).items():
        reports[name] = estimate_layer(plan.layer(name), model.layer(name).shape, curve)
        layers[name] = partial(_layer, plan, quiet, name)
    return {name: layers[name] for name in names}, reports


def _layer(plan: PruningPlan, scores: Scores, name: str) -> PrunedLayer:
    return PrunedLayer(build_masks(plan, scores, layers=[name])[name])


def finish(ranked: PrunedModel, statistics: Statistics) -> PrunedModel:
    """Search for better masks than the ranked ones and update the weights, as far as the recipe says so.

    Raises:
        UserError: as in `prune`.
    """
    if not ranked.recipe.finishes:
        return ranked
    start = time.perf_counter()
    layers = finish_layers(ranked.plan, ranked.packed_masks, statistics)
    report = ranked.report
    if ranked.recipe.search:
        report = _report(ranked.plan, {name: layer.mask for name, layer in layers.items()}, statistics)
    seconds = ranked.seconds + time.perf_counter() - start
    return PrunedModel(ranked.model, ranked.plan, layers, report, seconds)


def finish_layers(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> dict[str, PrunedLayer]:
    """The layers that `finish` makes of some or all masks of a plan, from the statistics' disk cache where they lie.

    Layers that the recipe keeps dense keep their weights and biases too.

    Raises:
        UserError: as in `prune`.
    """
    moving = _moving(plan, masks, statistics)
    made = stored_layers(plan, moving, statistics, lambda: _finish(plan, moving, statistics)) if moving else {}
    return {name: made[name] if name in moving else PrunedLayer(mask) for name, mask in masks.items()}


def is_stored(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> bool:
    """Whether `finish_layers` finds these masks finished on disk."""
    return are_stored(plan, _moving(plan, masks, statistics), statistics)


def _moving(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> dict[str, PackedMask]:
    """The masks of all layers but those that the recipe keeps dense."""
    dense = find_limits(plan.recipe.ignore, (), statistics.model.layers).dense
    return {name: mask for name, mask in masks.items() if name not in dense or mask.removed}


def _finish(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> dict[str, PrunedLayer]:
    recipe, updater = plan.recipe, plan.recipe.updater
    layerwise = [search for search in recipe.searches if search.layerwise]
    if not recipe.learns:
        return _solve(plan, masks, statistics, layerwise, updater)
    if layerwise:
        solved = _solve(plan, masks, statistics, layerwise, _compensation(recipe))
        masks = {name: layer.mask for name, layer in solved.items()}
    searches = [search for search in recipe.searches if not search.layerwise]
    searched = sum(search.learning_steps for search in searches)
    tuning = updater.learning_steps(searched) if updater else 0
    examples = statistics.distillation_set(searched + tuning) if searched + tuning else None
    # Weights learn from calls that the masks have not: what fits those already says nothing about others.
    first, second = examples.split(searched, tuning) if searched and tuning else (examples, examples)
    problem = ModelProblem(
        statistics,
        plan.layers,
        recipe.timestep,
        _compensation(recipe) is not None,
        examples=first,
        progress=statistics.progress,
    )
    for search in searches:
        found = search.improve(replace(problem, steps=search.learning_steps), masks)
        masks = {name: _found(search, plan.layer(name), found.get(name), mask) for name, mask in masks.items()}
    if updater is None:
        return {name: PrunedLayer(mask) for name, mask in masks.items()}
    if updater.layerwise:
        return _solve(plan, masks, statistics, [], updater)
    updated = updater.update(replace(problem, steps=tuning, examples=second), masks)
    for name, layer in updated.items():
        if name in masks and layer.mask.digest != masks[name].digest:
            raise UserError(f"The update {updater.name} must leave the mask of layer {name} as it is.")
    return {name: updated.get(name, PrunedLayer(mask)) for name, mask in masks.items()}


def _compensation(recipe: Recipe) -> Mean | None:
    """What stands for the recipe's update while masks are searched: biases move under every update that sees inputs."""
    updater = recipe.updater
    return Mean() if updater is not None and updater.needs_inputs else None


def _found(search: Search, plan: LayerPlan, found: PackedMask | None, before: PackedMask) -> PackedMask:
    """The mask that a search of the whole model has found for one layer, checked."""
    check_found(search, plan, found.unpack() if isinstance(found, PackedMask) else found, before.unpack())
    return found


def _solve(
    plan: PruningPlan,
    masks: Mapping[str, PackedMask],
    statistics: Statistics,
    searches: list[Search],
    update: Update | None,
) -> dict[str, PrunedLayer]:
    blind = update is not None and not update.needs_inputs
    layers = solve_layers(
        statistics,
        plan.layers,
        masks,
        searches=searches,
        update=None if blind else update,
        timestep=plan.recipe.timestep,
        sequential=plan.recipe.sequential,
        progress=statistics.progress,
    ).layers
    if not blind:
        return layers
    masks = {name: layer.mask for name, layer in layers.items()}
    return update_weights(statistics.model, masks, update, statistics.progress)


def _plan(recipe: Recipe, statistics: Statistics, sensitivity: Sensitivity | None) -> PruningPlan:
    """The plan; layers set by hand come when all others are as they would be without them, or make up for them."""
    plain = replace(recipe, tuned=()) if recipe.tuned else recipe
    held = _lost_by_hand(recipe, statistics) if recipe.rebalance and recipe.tuned else {}
    found = _plan_alone(plain, statistics, sensitivity, held)
    return found.with_tuned(recipe.tuned, {layer.name: layer.shape for layer in statistics.model.layers})


def _lost_by_hand(recipe: Recipe, statistics: Statistics) -> dict[str, int]:
    """Layer set by hand → how many weights it loses; nothing where no other layer can make up for it, as under N:M."""
    model, scores = statistics.model, Scores(recipe, statistics)
    if n_of_m(recipe.resolved_granularity) or len(recipe.tuned) == len(model.layers):
        return {}
    shapes = {layer.name: layer.shape for layer in model.layers}
    bare = replace(recipe, allocation="uniform", sensitivity=False, ignore=(), bounds=(), tuned=())
    plan = make_plan(bare, model.layers, scores.measures(), progress=statistics.progress)
    plan = plan.with_tuned(recipe.tuned, shapes)
    lost = {}
    for one in recipe.tuned:
        own = plan.layer(one.name)
        if own.clusters is not None:
            lost[one.name] = build_masks(plan, scores, layers=[one.name])[one.name].removed
        elif own.count is not None:
            lost[one.name] = own.count
        else:
            lost[one.name] = removed_in_layer(shapes[one.name], own.granularity, own.sparsity)
    return lost


def _plan_alone(
    recipe: Recipe, statistics: Statistics, sensitivity: Sensitivity | None, held: Mapping[str, int]
) -> PruningPlan:
    model, scores = statistics.model, Scores(recipe, statistics)

    def plan(
        chosen: Recipe, weights: Mapping[str, float] | None, curves: Mapping[str, ErrorCurve] | None = None
    ) -> PruningPlan:
        measures = scores.measures()
        known = {"sensitivity": weights, "curves": curves, "held": held, "progress": statistics.progress}
        made = make_plan(chosen, model.layers, measures, **known)
        return replace(made, recipe=recipe)

    if recipe.allocation == "uniform":
        return plan(recipe, None)
    weights, curves = None, {}
    if recipe.sensitivity:
        sensitivity = sensitivity or layer_sensitivity(recipe, statistics)
        weights, curves = sensitivity.weights(), sensitivity.curves()
    found = plan(recipe, weights, curves)
    layerwise = [search for search in recipe.searches if search.layerwise]
    if not layerwise:
        return found
    # A rehearsal: layers whose errors cancel well when weights are swapped can lose more, so the budget is shared out
    # again with each layer's energy scaled by what its search leaves of its error.
    dense = find_limits(recipe.ignore, (), model.layers).dense
    searched = [name for name in found.layers if name not in dense]
    solved = solve_layers(
        statistics,
        found.layers,
        build_masks(found, scores, layers=searched, progress=statistics.progress),
        searches=layerwise,
        update=_compensation(recipe),
        timestep=recipe.timestep,
        progress=statistics.progress,
    )
    left = {layer.name: solved.left.get(layer.name, 1.0) for layer in model.layers}
    weights = {name: value * (weights or {}).get(name, 1.0) for name, value in left.items()}
    return plan(recipe, weights, {name: curve.scaled(left[name]) for name, curve in curves.items()})


def layer_sensitivity(recipe: Recipe, statistics: Statistics) -> Sensitivity:
    """What pruning each layer alone does to the model's output, measured with the recipe's own ranking.

    Raises:
        UserError: as in `prune`.
    """
    plain = replace(recipe, allocation="uniform", sensitivity=False, tuned=())
    plan = _plan(plain, statistics, None)
    scores = Scores(recipe, statistics)

    def ranking(layer: str, sparsities: Sequence[float]) -> list[PackedMask]:
        table = scores(layer)
        return [mask_at(plan.layer(layer), table, sparsity) for sparsity in sparsities]

    return measure_sensitivity(statistics, ranking, inputs=SENSED_INPUTS, progress=statistics.progress)


def _report(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> PlanReport:
    model, centred = statistics.model, plan.recipe.centred
    lost = lambda layer: statistics.mean_square(layer, centred=centred)  # noqa: E731
    return summarize(plan, masks, model.weight, lost, parameters=model.parameters)
