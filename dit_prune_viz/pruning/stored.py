"""Finished layers kept on disk by what they were made from, so that a person waits for training once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import content_key, kept
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.rounding import Rounded
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe import Recipe

VERSION = 1
"""Raised whenever the same masks would be finished differently, though no method has changed."""


def stored_layers(
    plan: PruningPlan,
    masks: Mapping[str, PackedMask],
    statistics: Statistics,
    make: Callable[[], dict[str, PrunedLayer]],
) -> dict[str, PrunedLayer]:
    """What `make` gives, from the statistics' disk cache if the same masks were finished by the same recipe before.

    Methods from outside the package are run every time: their code may have changed under the same name.

    Args:
        plan: of the model, with the recipe that finishes.
        masks: layer → ranked mask.
        statistics: of the model.
        make: does the work.
    """
    if not _storable(plan, statistics):
        return make()
    found = kept(statistics.disk, _key(plan, masks, statistics), lambda: _to_tensors(make()))
    return {name: _layer(found, name, mask.shape) for name, mask in masks.items()}


def are_stored(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> bool:
    """Whether `stored_layers` finds them on disk; arguments as there."""
    return _storable(plan, statistics) and statistics.disk.path(_key(plan, masks, statistics)).is_file()


def _storable(plan: PruningPlan, statistics: Statistics) -> bool:
    return statistics.disk is not None and all(method.built_in for method in _finishing(plan.recipe))


def _layer(found: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> PrunedLayer:
    mask, new = PackedMask(found[f"mask.{name}"], shape), found.get(f"values.{name}")
    if f"codes.{name}" in found:
        bits, group = found[f"grid.{name}"].tolist()
        codes, scales = found[f"codes.{name}"], found[f"scales.{name}"]
        new = Rounded(codes, scales, shape, bits, group, mask if mask.removed else None, found[f"like.{name}"].dtype)
    return PrunedLayer(mask, new, found.get(f"bias.{name}"))


def _finishing(recipe: Recipe) -> tuple:
    return *recipe.searches, *filter(None, [recipe.updater])


def _key(plan: PruningPlan, masks: Mapping[str, PackedMask], statistics: Statistics) -> str:
    recipe = plan.recipe
    versions = [method.version for method in _finishing(recipe)]
    settings = [recipe.search, recipe.update, recipe.timestep, recipe.sequential, versions]
    layers = [[name, mask.digest, *_groups(plan.layer(name))] for name, mask in masks.items()]
    return content_key("finished", VERSION, statistics.model.signature, statistics.calibration.key, settings, layers)


def _groups(layer: LayerPlan) -> list[object]:
    return [layer.granularity, layer.sparsity, layer.count, _clusters(layer.clusters)]


def _clusters(clusters: ClusterPlan | None) -> str | None:
    if clusters is None:
        return None
    parts: list[object] = [clusters.unit, clusters.sparsity, clusters.labels.tobytes()]
    if (under := clusters.beneath) is not None:
        parts += [under.unit, under.units, under.sparsity, under.labels.tobytes(), under.members.tobytes()]
    return content_key("clusters", *parts)


def _to_tensors(layers: Mapping[str, PrunedLayer]) -> dict[str, Tensor]:
    parts = {}
    for name, layer in layers.items():
        own = {"mask": layer.mask.bits, "bias": layer.bias}
        if (rounded := layer.rounded) is None:
            own["values"] = layer.values
        else:
            grid, like = torch.tensor([rounded.bits, rounded.group]), torch.empty(0, dtype=rounded.dtype)
            own |= {"codes": rounded.codes, "scales": rounded.scales, "grid": grid, "like": like}
        parts |= {f"{part}.{name}": tensor for part, tensor in own.items() if tensor is not None}
    return parts
