"""New weights for every pruned layer of a model, package by package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, record_inputs
from dit_prune_viz.calibration.second_moments import Moments, collect_moments
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import UpdatedWeights, compact
from dit_prune_viz.masks.running import pruned
from dit_prune_viz.methods.search.swap import error_left, exchange, exchange_groups
from dit_prune_viz.methods.update.least_squares import least_squares_update
from dit_prune_viz.methods.update.obs import obs_update
from dit_prune_viz.methods.update.packages import package_layers
from dit_prune_viz.pipelines.device import out_of_memory

if TYPE_CHECKING:
    from dit_prune_viz.calibration.result import Calibration
    from dit_prune_viz.masks.layer_plan import LayerPlan
    from dit_prune_viz.pipelines.model import Model
    from dit_prune_viz.pruning.plan import PruningPlan

LAYERWISE = ("least-squares", "obs", "mean")
"""The best weights under the mask for each layer's own outputs, SparseGPT's greedy ones, or the weights as they are and
biases that make up for the mean output that the mask takes away."""

TUNED = "tuned"
"""Weights that learn from the whole model's answers, see `tune_weights`."""

UPDATES = (*LAYERWISE, TUNED)

_CONSTANT = 1e-5
"""Share of the inputs' energy about their mean below which they are constant, up to rounding."""


def check_update(method: str) -> str:
    """`method` itself, one of UPDATES, or "" for none. UserError for anything else."""
    if not isinstance(method, str) or method not in ("", *UPDATES):
        raise UserError(f"There is no weight update {brief(method)}; choose one of {', '.join(UPDATES)}.")
    return method


def update_model(
    model: Model,
    masks: Mapping[str, PackedMask],
    calibration: Calibration,
    *,
    method: str = "least-squares",
    timestep: str | Sequence[float] = "uniform",
    package_bytes: int = 2 << 30,
    sequential: bool = False,
    biases: bool = True,
    damping: float = 0.1,
    exchanges: PruningPlan | None = None,
    inputs: RecordedInputs | None = None,
    progress: Progress | None = None,
) -> dict[str, UpdatedWeights]:
    """Move the kept weights of all masked layers so that their outputs on the calibration inputs stay (OBS-Diff,
    arXiv 2510.06751, with the timestep-weighted Hessian Σ_t α_t·X_tᵀX_t); the dense weights are only read.

    The drawn inputs of `calibration` are recorded once and replayed for each package of layers. Memory: beside the
    model and its forward pass at most `peak_bytes(package_layers(…), inputs.nbytes)`, which can be asked beforehand,
    and the result, which is no larger than the pruned layers' weights, on the model's device.

    A layer whose inputs were all zero has no entry in the result: its mask alone changes nothing. Nor has one that
    "mean" finds without a bias.

    Args:
        model: the calibrated model; its lock is held meanwhile.
        masks: layer -> mask; they stay exactly as they are unless `exchanges` is given.
        calibration: which inputs to watch.
        method: one of LAYERWISE, or "" to leave weights and biases as they are, which makes sense with `exchanges`
            only.
        timestep: α of the timestep bins, a scheme's name or (bins,) numbers, see `timestep_weights`.
        package_bytes: memory for the Hessians of one package.
        sequential: block by block, later ones see the inputs that the updated earlier ones give them. "least-squares"
            then aims at the dense outputs of the dense inputs, so that a layer makes up for errors before it; "obs"
            at the dense outputs of the new inputs.
        biases: also move the bias of layers that have one, so that the mean output stays exactly.
        damping: see `least_squares_update`; 128 inputs of 16 prompts ask for more than 1 %, or the text stream's layers
            and the MLPs fit these inputs and no others.
        exchanges: the plan of the masks. Before its weights move, each layer exchanges pruned for kept weights inside
            the groups of the plan, see `exchange`; the new masks are those of the result.
        inputs: those of `calibration`, recorded before.
        progress: called after every step of recording, every replayed call and every layer; may raise `Cancelled`.

    Raises:
        UserError: an unknown method, weighting or layer, masks that do not fit, a Hessian that is not finite, too
            little memory, a calibration that does not say what it watched.
    """
    if check_update(method) == TUNED:
        raise UserError(f"{TUNED} weights are not found layer by layer; choose one of {', '.join(LAYERWISE)}.")
    if not method and exchanges is None:
        return {}
    biases = biases and bool(method)
    scale = timestep_weights(timestep, calibration.edges)
    wanted = set(map(model.layer, masks))
    for layer in wanted:
        if tuple(masks[layer.name].shape) != layer.shape:
            raise UserError(f"The mask of layer {layer.name} belongs to another model; prune the model that is loaded.")
    if method == "mean" and biases and not sequential and calibration.sums and exchanges is None:
        return _mean_updates(model, masks, calibration, scale)
    packages = package_layers(
        (layer for layer in model.layers if layer in wanted), package_bytes, sequential=sequential
    )
    inputs = record_inputs(model, calibration, progress=progress) if inputs is None else inputs
    updates: dict[str, UpdatedWeights] = {}
    total = len(packages) * len(inputs.calls) + len(masks)
    done = 0

    def advance(*_, what: str = "Collecting Hessians") -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    earlier: dict[str, PackedMask] = {}
    for package in packages:
        names = [layer.name for layer in package]
        block = partial(pruned, model, earlier, updates=dict(updates)) if sequential and earlier else None
        moments = collect_moments(
            model, names, like=calibration, weights=scale, inputs=inputs, altered=block, progress=advance
        )
        for name in names:
            try:
                layer = None if exchanges is None else exchanges.layer(name)
                update = _update(model, name, masks[name], moments.pop(name), method, damping, biases, layer)
            except (RuntimeError, MemoryError) as error:
                if out_of_memory(error):
                    raise UserError(f"Updating {name} does not fit into the memory of {model.device}.") from error
                raise
            if update is not None:
                updates[name] = update
            earlier = {**earlier, name: masks[name] if update is None else update.mask}
            advance(what=f"Updating {name}")
    return updates


@torch.no_grad()
def _mean_updates(
    model: Model, masks: Mapping[str, PackedMask], calibration: Calibration, scale: Sequence[float]
) -> dict[str, UpdatedWeights]:
    """The method "mean" from what the calibration has summed; no input is watched again."""
    updates = {}
    for name, mask in masks.items():
        weight, bias = model.weight(name), model.transformer.get_submodule(name).bias
        mean = calibration.mean(name, scale).to(weight.device)
        if bias is not None and bool(mean.any()):
            lost = weight.float() * ~mask.to(weight.device).unpack()
            updates[name] = UpdatedWeights(None, mask, (bias.float() + lost @ mean).to(weight.dtype))
    return updates


@torch.no_grad()
def _update(
    model: Model,
    name: str,
    mask: PackedMask,
    moments: Moments,
    method: str,
    damping: float,
    biases: bool,
    exchanges: LayerPlan | None,
) -> UpdatedWeights | None:
    weight = model.weight(name)
    bias = model.transformer.get_submodule(name).bias
    keep = mask.to(weight.device).unpack()
    hessian = moments.hessian
    energy = float(hessian.diagonal().sum())
    if energy == 0:
        return None
    centred = biases and bias is not None
    mean = moments.total / moments.tokens
    source = mean if moments.reference is None else moments.reference / moments.tokens
    if centred:
        hessian = hessian - torch.outer(moments.total, mean)
    target = None
    if moments.cross is not None:
        cross = moments.cross - torch.outer(moments.reference, mean) if centred else moments.cross
        target = weight.float() @ cross
    constant = centred and float(hessian.diagonal().sum()) <= _CONSTANT * energy
    left = 1.0
    try:
        if exchanges is not None and not constant:
            groups = exchange_groups(exchanges, mask.shape)
            before, keep = keep, exchange(weight, keep, hessian, groups=groups, damping=damping, target=target)
            mask, left = pack(keep), error_left(weight, before, keep, hessian, damping)
        stays = method in ("", "mean") or constant  # constant inputs: the bias alone makes up for everything
        if stays:
            if not centred and exchanges is None:
                return None
            updated = weight.float() * keep
        elif method == "obs":
            updated = obs_update(weight, keep, hessian, damping=damping)
        else:
            updated = least_squares_update(weight, keep, hessian, damping=damping, target=target)
    except UserError as error:
        raise UserError(f"Layer {name}: {error}") from error
    moved = bias.float() + weight.float() @ source - updated @ mean if centred else None
    if stays:
        return UpdatedWeights(None, mask, None if moved is None else moved.to(weight.dtype), left)
    return compact(updated, mask, weight.dtype, moved, left)
