"""How many bytes a pruned transformer takes in the packed format: exactly, and at once for a slider to follow."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Progress
from dit_prune_viz.export.coding import bits_each
from dit_prune_viz.export.pack import EXACT, packings
from dit_prune_viz.export.packed_tensor import PackedTensor, pack_tensor
from dit_prune_viz.export.part_files import config_text
from dit_prune_viz.export.pipeline_files import precisions_of, transformers_of
from dit_prune_viz.export.size_sample import GRID, sample_layer
from dit_prune_viz.masks.groups import removed_in_layer
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import PlanReport
from dit_prune_viz.pruning.tuned_layer import TunedLayer

_WHOLE = 1 << 18
"""Values of a dense tensor that are packed to know its size; most have fewer."""

_SOME = 1 << 16
"""Values of a layer that tell how many bits they take where they have moved."""

_IN_FILE, _IN_HEADER = 70, 78
"""Bytes that a safetensors file says of a part, and the header of a tensor beside its entry; names apart."""

_FILES = 600
"""Bytes of config.json and of what else the header says."""

_USUAL = (1.0, 1.0)
"""Exponents of a ranking that is no power of weights and norms, or is not known."""


def packed_bytes(pruned: PrunedModel, progress: Progress | None = None, *, values: str = EXACT) -> int:
    """The bytes of a pruned model's transformers in the packed format: shards, header and config.json.

    Everything is packed, one tensor after another, and nothing is written.

    Args:
        pruned: only read.
        progress: called before every tensor; may raise `Cancelled`.
        values: as in `pack`.

    Raises:
        UserError: as `pack`, of what cannot be packed.
    """
    about, total = {"parts": precisions_of(pruned.model.pipeline)}, 0
    for source in packings(pruned, values).values():
        total += source.write(None, about, progress) + len(config_text(source.transformer).encode())
    return total


def packed_sizes(model: Model) -> PackedSizes:
    """The estimates for a model, made once and kept in its cache."""
    return model.cache.get("packed sizes", lambda: PackedSizes(model))


class PackedSizes:
    """Estimates what `packed_bytes` says, from a sample of every layer's weights.

    A layer's kept weights are known from its mask where there is one, else from how its plan ranks weights, by
    |W|^m · ‖X‖^n with the norms of the calibration if the model has one. The first estimate for a ranking takes
    milliseconds a layer, further ones microseconds.

    Args:
        source: the model, or its statistics.

    Attributes:
        nbytes: what it takes in memory.
    """

    def __init__(self, source: Model | Statistics) -> None:
        self._statistics = source if isinstance(source, Statistics) else None
        model = source.model if isinstance(source, Statistics) else source
        self._model = weakref.ref(model)
        resting = Resting(model.transformer)
        self._layers = {layer.name: layer for layer in model.layers}
        self._samples = {
            name: sample_layer(resting(f"{name}.weight").reshape(layer.shape), _part(f"{name}.weight", "byte0"))
            for name, layer in self._layers.items()
        }
        self._fixed = self._fixed_bytes(model, resting)
        self._recipe = Recipe()
        self._tables: dict[tuple, np.ndarray] = {}
        self._single: dict[str, tuple[object, float]] = {}
        self.nbytes = sum(sample.nbytes for sample in self._samples.values())

    def estimate(self, pruned: PruningPlan | PlanReport | PrunedModel) -> int:
        """About how many bytes the model takes in the packed format.

        Args:
            pruned: of this model. Of a pruned model the masks that are made by now are looked at. A report does not say
                how weights were ranked: as in the last plan that was estimated, or by the paper's method.
        """
        if isinstance(pruned, PlanReport):
            layers = {one.name: LayerPlan(one.name, one.granularity, one.g_out, one.sparsity) for one in pruned.layers}
            counts = {one.name: one.removed for one in pruned.layers}
            return int(_length(self._recipe) + self._total(self._recipe, layers, {}, counts))
        self._recipe = pruned.recipe
        if isinstance(pruned, PruningPlan):
            return int(self._recipe_bytes(pruned) + self._total(pruned.recipe, pruned.layers, {}, {}))
        return int(self._recipe_bytes(pruned.plan) + self._fixed + sum(self.by_layer(pruned).values()))

    def by_layer(self, pruned: PrunedModel) -> dict[str, float]:
        """Layer → about how many bytes its mask and its weights take; `estimate` counts all that a file holds."""
        counts = {one.name: one.removed for one in pruned.report.layers}
        bits = self._bits(pruned.recipe, pruned.plan.layers, pruned.layers.made, counts)
        return {name: bits[name] / 8 for name in pruned.plan.layers}

    def _recipe_bytes(self, plan: PruningPlan) -> float:
        """Bytes of the recipe in the header; labels of clusters are most of it."""
        plain = _length(plan.recipe)

        def more(layer: LayerPlan) -> int:
            return _length(replace(plan.recipe, tuned=(TunedLayer.of(layer),))) - plain

        own = ((name, plan.layers[name]) for name in plan.by_hand)
        return plain + sum(self._kept(f"{name} by hand", layer, lambda layer=layer: more(layer)) for name, layer in own)

    def _total(
        self,
        recipe: Recipe,
        plans: Mapping[str, LayerPlan],
        made: Mapping[str, PrunedLayer],
        counts: Mapping[str, int],
    ) -> float:
        """All bytes but those of the recipe."""
        return self._fixed + sum(self._bits(recipe, plans, made, counts).values()) / 8

    def _bits(
        self,
        recipe: Recipe,
        plans: Mapping[str, LayerPlan],
        made: Mapping[str, PrunedLayer],
        counts: Mapping[str, int],
    ) -> dict[str, float]:
        """Layer → bits of its mask and of its weights."""
        bits, waiting = {}, {}
        for name, plan in plans.items():
            if name in made:
                bits[name] = self._kept(name, made[name], lambda layer=made[name], name=name: self._masked(name, layer))
            elif plan.clusters is not None and (plan.clusters.rules or plan.clusters.beneath is not None):
                bits[name] = self._kept(name, plan, lambda plan=plan: self._clustered(recipe, plan))
            else:
                waiting[name] = plan
        return bits | self._ranked(recipe, waiting, counts)

    def _kept(self, name: str, key: object, make) -> float:
        """What was made of a layer, made again only when its plan or mask is another one."""
        known, bits = self._single.get(name, (None, 0.0))
        if known is not key:
            bits = make()
            self._single[name] = key, bits
        return bits

    def _masked(self, name: str, layer: PrunedLayer) -> float:
        sample = self._samples[name]
        found = sample.bits(sample.of_mask(layer.mask))
        mask, value, scales = found.mask * layer.mask.weights, found.value, 0
        if layer.rounded:
            codes = layer.rounded.codes[:_SOME].cpu().numpy().view(np.uint8)
            value = bits_each(codes) if layer.rounded.bits == 8 else 4.0
            mask, scales = mask if layer.rounded.mask else 0.0, 8 * layer.rounded.scales.nbytes
        elif layer.new is not None:
            moved = layer.new[:_SOME].detach().cpu().to(self._dtype(name))
            value = 8 * pack_tensor(moved).nbytes / max(1, moved.numel())
        return mask + scales + value * layer.mask.kept

    def _clustered(self, recipe: Recipe, plan: LayerPlan) -> float:
        sample = self._samples[plan.name]
        scores = self._scores(recipe, plan.name)
        weights = self._layers[plan.name].weights
        rank = sample.ranks(scores, plan.granularity)
        keep = rank >= (plan.sparsity if plan.count is None else plan.count / weights)
        found = sample.bits(sample.with_clusters(keep, scores, plan.clusters, plan.granularity))
        return weights * (found.mask + found.value * found.kept)

    def _ranked(self, recipe: Recipe, plans: Mapping[str, LayerPlan], counts: Mapping[str, int]) -> dict[str, float]:
        """The bits of layers without clusters, all of them at once."""
        if not plans:
            return {}
        weights = np.array([self._layers[name].weights for name in plans], np.float64)
        gone = np.array([_removed(plan, self._layers[name], counts.get(name)) for name, plan in plans.items()])
        ranking = self._ranking(recipe)
        tables = np.stack([self._table(recipe, ranking, name, plan.granularity) for name, plan in plans.items()])
        share = gone / weights
        place = np.clip(np.searchsorted(GRID, share, side="right") - 1, 0, len(GRID) - 2)
        part = ((share - GRID[place]) / (GRID[place + 1] - GRID[place]))[:, None]
        every = np.arange(len(place))
        mask, value = ((1 - part) * tables[every, place] + part * tables[every, place + 1]).T
        return dict(zip(plans, (mask * weights + value * (weights - gone)).tolist(), strict=True))

    def _table(self, recipe: Recipe, ranking: tuple, name: str, granularity: str) -> np.ndarray:
        key = (name, granularity, ranking)
        if key not in self._tables:
            self._tables[key] = self._samples[name].table(self._scores(recipe, name), granularity)
        return self._tables[key]

    def _ranking(self, recipe: Recipe) -> tuple:
        """What decides the order of the weights: exponents, and which norms."""
        m, n = recipe.method.exponents or _USUAL
        if not n:
            return m, n
        return m, n, recipe.timestep, recipe.centred, None if self._known(recipe) is None else recipe.calibration

    def _known(self, recipe: Recipe) -> Statistics | None:
        """The statistics of the inputs, where there are any."""
        model = self._model()
        if self._statistics is not None or model is None:
            return self._statistics
        calibration = model.cache.find(("calibration", recipe.calibration))
        return calibration and Statistics(model, calibration)

    def _scores(self, recipe: Recipe, name: str) -> np.ndarray:
        exponents, known = recipe.method.exponents or _USUAL, self._known(recipe)
        norm = None
        if known is not None and exponents[1]:
            norm = known.norm(name, recipe.timestep, centred=recipe.centred).numpy()
        return self._samples[name].scores(exponents, norm)

    def _dtype(self, name: str) -> torch.dtype:
        return self._model().transformer.get_submodule(name).weight.dtype

    def _fixed_bytes(self, model: Model, resting: Resting) -> float:
        """Bytes of everything but the pruned weights, and of what the files say of every tensor."""
        total = 0.0
        pruned = {f"{name}.weight" for name in self._layers}
        for key in model.transformer.state_dict():
            if key not in pruned:
                packed, scale = _piece(resting(key))
                total += _described(key, packed) + scale * packed.nbytes
        typical = next(iter(self._layers))
        some = resting(f"{typical}.weight").reshape(self._layers[typical].shape)[:64].cpu()
        packed = pack_tensor(some, pack(some.abs() > some.abs().float().median()))
        packed.parts.pop("byte0", None)  # which the samples count
        return total + sum(_described(key, packed) for key in pruned) + _FILES * len(transformers_of(model.pipeline))


def _length(recipe: Recipe) -> int:
    return len(recipe.to_json(None))


def _removed(plan: LayerPlan, layer: Layer, count: int | None) -> int:
    if count is not None or plan.count is not None:
        return plan.count if count is None else count
    return removed_in_layer(layer.shape, plan.granularity, plan.sparsity)


def _piece(tensor: Tensor) -> tuple[PackedTensor, float]:
    """A tensor, or pieces of a large one, packed; and how many times as large the whole is."""
    flat = tensor.detach().reshape(-1)
    if len(flat) > _WHOLE:
        starts = torch.linspace(0, len(flat) - _WHOLE // 8, 8).long().tolist()
        flat = torch.cat([flat[start : start + _WHOLE // 8] for start in starts])
    return pack_tensor(flat.cpu()), tensor.numel() / max(1, len(flat))


def _described(key: str, packed: PackedTensor) -> int:
    """Bytes that header and file say of a packed tensor."""
    return len(key) + len(json.dumps(packed.entry)) + _IN_HEADER + sum(_part(key, part) for part in packed.parts)


def _part(key: str, part: str) -> int:
    """Bytes that a file says of a part."""
    return len(key) + 1 + len(part) + _IN_FILE
