"""Search and update layer by layer, on second moments collected for one package of layers at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dit_prune_viz.calibration.packages import package_layers
from dit_prune_viz.calibration.second_moments import SecondMoments, collect_moments
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.masks.rounding import Rounded
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.methods.problem import DAMPING, LayerProblem
from dit_prune_viz.methods.search.base import Search, check_found
from dit_prune_viz.methods.search.swap import error_left
from dit_prune_viz.methods.update.base import Update, check_updated
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import Model

_CONSTANT = 1e-5
"""Share of the inputs' energy about their mean below which they are constant, up to rounding."""


@dataclass(frozen=True, eq=False)
class Solved:
    """What came of the layers.

    Attributes:
        layers: layer → pruned layer.
        left: layer → what its search has left of its squared output error, 1 where nothing was searched.
    """

    layers: dict[str, PrunedLayer] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)


def solve_layers(
    statistics: Statistics,
    plans: Mapping[str, LayerPlan],
    masks: Mapping[str, PackedMask],
    *,
    searches: Sequence[Search] = (),
    update: Update | None = None,
    timestep: str = "uniform",
    sequential: bool = False,
    damping: float = DAMPING,
    package_bytes: int = 2 << 30,
    progress: Progress | None = None,
) -> Solved:
    """Improve masks, and move kept weights so that the layers' outputs on the calibration inputs stay (OBS-Diff, arXiv
    2510.06751, with the timestep-weighted Hessian Σ_t α_t·X_tᵀX_t).

    The inputs of the calibration are recorded once and replayed for each package of layers. Memory: beside the model
    and its forward pass at most `peak_bytes` of the packages, and the result on the model's device, which is no larger
    than the pruned layers' weights. Layers whose inputs are all zero keep mask and weights: any do.

    Args:
        statistics: of the dense model, which is only read; its lock is held meanwhile.
        plans: layer → its plan, whose groups a search respects.
        masks: layer → mask, where the searches start.
        searches: layerwise ones, in order.
        update: a layerwise one that looks at inputs, or None. With one, biases make up for whatever mean output is
            still lost.
        timestep: how the timestep bins are weighed.
        sequential: block by block, later ones see the inputs that the finished earlier ones give them. The target is
            then the dense output of the dense inputs, so that a layer makes up for errors before it.
        damping: λ/mean(diag H) of H + λI.
        package_bytes: memory for the second moments of one package.
        progress: called after every step of recording, every replayed call and every layer; may raise `Cancelled`.

    Returns:
        All layers of `masks`.

    Raises:
        UserError: an unknown layer, masks that do not fit, second moments that are not finite, too little memory.
    """
    model = statistics.model
    _check_shapes(statistics, masks)
    solved = Solved({name: PrunedLayer(mask) for name, mask in masks.items()})
    if not searches and update is None:
        return solved
    if isinstance(update, Mean) and not (searches or sequential) and statistics.calibration.sums:
        _compensate(statistics, solved, timestep)
        return solved
    wanted = [layer for layer in model.layers if layer.name in masks]
    packages = package_layers(wanted, package_bytes, sequential=sequential)
    inputs = statistics.reporting(progress).inputs
    done, calls = 0, len(packages) * len(inputs.calls)
    steps = steps_of(wanted, (4 if searches else 1) * calls)
    total = calls + sum(steps.values())

    def advance(*_: object, what: str = "Collecting second moments", by: int = 1) -> None:
        nonlocal done
        done += by
        if progress is not None:
            progress(done, total, what)

    earlier: dict[str, PrunedLayer] = {}
    for package in packages:
        names = [layer.name for layer in package]
        altered = partial(running_pruned, model, dict(earlier)) if sequential and earlier else None
        moments = collect_moments(
            model,
            names,
            like=statistics.calibration,
            weights=statistics.weights(timestep),
            inputs=inputs,
            altered=altered,
            progress=advance,
        )
        for name in names:
            task = _LayerTask(statistics, name, plans[name], masks[name], moments.pop(name), damping)
            solved.layers[name], solved.left[name] = task.solve(searches, update)
            earlier[name] = solved.layers[name]
            advance(what=f"Updating {name}", by=steps[name])
    return solved


def steps_of(layers: Sequence[Layer], calls: int) -> dict[str, int]:
    """For how many replayed calls every layer counts in the progress, about `calls` in all: by the multiplications that
    its second moments cost, or the time left would be told by the quick calls and the small layers that come first."""
    work = {layer.name: layer.shape[1] ** 2 * float(sum(layer.shape)) for layer in layers}
    whole = sum(work.values()) or 1.0
    return {name: max(1, round(calls * own / whole)) for name, own in work.items()}


def _check_shapes(statistics: Statistics, masks: Mapping[str, PackedMask]) -> None:
    for name, mask in masks.items():
        if tuple(mask.shape) != statistics.model.layer(name).shape:
            raise UserError(f"The mask of layer {name} belongs to another model; prune the model that is loaded.")


@torch.no_grad()
def update_weights(
    model: Model, masks: Mapping[str, PackedMask], update: Update, progress: Progress | None = None
) -> dict[str, PrunedLayer]:
    """New weights by an update that looks at nothing else; the model does not run, and biases stay.

    Args:
        model: the dense model, only read.
        masks: layer → mask, which stays.
        update: one that overrides `new_weights`.
        progress: called before every layer; may raise `Cancelled`.

    Raises:
        UserError: weights that cannot be used, see `check_updated`.
    """
    layers = {}
    for done, (name, mask) in enumerate(masks.items()):
        if progress is not None:
            progress(done, len(masks), f"Updating {name}")
        weight = model.weight(name)
        new = update.new_weights(weight, mask)
        if new is not None and not isinstance(new, Rounded):
            new = check_updated(update, name, new, mask.to(weight.device).unpack())
            layers[name] = compact(new, mask, weight.dtype)
        else:
            layers[name] = PrunedLayer(mask, new)
    return layers


@torch.no_grad()
def _compensate(statistics: Statistics, solved: Solved, timestep: str) -> None:
    """Bias compensation from what the calibration has summed; the model does not run."""
    model = statistics.model
    weights = statistics.weights(timestep) or (1.0,) * (len(statistics.calibration.edges) - 1)
    for name, layer in solved.layers.items():
        weight, bias = model.weight(name), model.bias(name)
        mean = statistics.calibration.mean(name, weights).to(weight.device)
        if bias is not None and bool(mean.any()):
            lost = weight.float() * ~layer.mask.to(weight.device).unpack()
            moved = (bias.float() + lost @ mean).to(weight.dtype)
            solved.layers[name] = PrunedLayer(layer.mask, None, moved)


@dataclass(frozen=True, eq=False)
class _LayerTask:
    """One layer with the moments of its inputs."""

    statistics: Statistics
    name: str
    plan: LayerPlan
    mask: PackedMask
    moments: SecondMoments
    damping: float

    @torch.no_grad()
    def solve(self, searches: Sequence[Search], update: Update | None) -> tuple[PrunedLayer, float]:
        fitting = telling_of_memory(f"Updating it does not fit into the memory of {self.statistics.model.device}.")
        try:
            with fitting:
                return self._solve(searches, update)
        except UserError as error:
            raise UserError(f"Layer {self.name}: {error}") from error

    def _solve(self, searches: Sequence[Search], update: Update | None) -> tuple[PrunedLayer, float]:
        model, moments = self.statistics.model, self.moments
        weight, bias = model.weight(self.name), model.bias(self.name)
        energy = float(moments.hessian.diagonal().sum())
        if energy == 0:
            return PrunedLayer(self.mask), 1.0
        mean = moments.total / moments.tokens
        centred = update is not None and bias is not None
        problem = self._problem(weight, mean, centred)
        # Constant inputs: the bias alone makes up for everything.
        constant = centred and float(problem.hessian.diagonal().sum()) <= _CONSTANT * energy
        before = keep = self.mask.to(weight.device).unpack()
        mask, left = self.mask, 1.0
        if searches and not constant:
            for search in searches:
                keep = check_found(search, self.plan, search.improve_layer(problem, keep), keep)
            mask, left = pack(keep), error_left(weight, before, keep, problem.hessian, self.damping)
        new = None if update is None or constant else update.update_layer(problem, keep)
        if new is not None:
            new = check_updated(update, self.name, new, keep)
        moved = None
        if centred:
            source = mean if moments.reference is None else moments.reference / moments.tokens
            table = weight.float() * keep if new is None else new
            moved = bias.float() + weight.float() @ source - table @ mean
        if new is None:
            return PrunedLayer(mask, None, None if moved is None else moved.to(weight.dtype)), left
        return compact(new, mask, weight.dtype, moved), left

    def _problem(self, weight: Tensor, mean: Tensor, centred: bool) -> LayerProblem:
        moments = self.moments
        hessian = moments.hessian - torch.outer(moments.total, mean) if centred else moments.hessian
        target = None
        if moments.cross is not None:
            cross = moments.cross - torch.outer(moments.reference, mean) if centred else moments.cross
            target = weight.float() @ cross
        return LayerProblem(self.plan, weight, hessian, target, self.damping)
