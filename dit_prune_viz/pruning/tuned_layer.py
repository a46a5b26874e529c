"""A layer that a person set by hand, as a recipe holds it: small, comparable, and checked before it is unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dit_prune_viz.checks import brief, check_keys, check_switch, check_text, whole
from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.clustering.packed_labels import PackedLabels, pack_labels
from dit_prune_viz.clustering.units import check_unit, count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.earlier_clusters import EarlierClusters
from dit_prune_viz.masks.groups import check_granularity, check_n_m
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan

_MOST_CLUSTERS = 1 << 16
_MOST_MEMBERS = 1 << 28
"""Parts of a layer times earlier clusters."""

_MOST_WEIGHTS = 1 << 62
_MOST_LOOKS = 1 << 16
_MOST_CHARACTERS = 500
"""Of a cluster's name: one that was split many times has a long one."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


@dataclass(frozen=True)
class TunedBeneath:
    """Packed `EarlierClusters`: what clusterings before the last one still say about the mask.

    unit, units, sparsity: as there. labels: packed. members: (c, n) bool, flat, as packed numbers 0 and 1.
    """

    unit: str
    labels: PackedLabels
    units: tuple[str, ...]
    sparsity: tuple[float, ...]
    members: PackedLabels

    @staticmethod
    def of(earlier: EarlierClusters) -> TunedBeneath:
        """Packed."""
        parts = earlier.members.shape[1]
        members = pack_labels(earlier.members.reshape(-1), 2)
        return TunedBeneath(earlier.unit, pack_labels(earlier.labels, parts), earlier.units, earlier.sparsity, members)

    def unpack(self, shape: tuple[int, int]) -> EarlierClusters:
        """For a layer of this shape (d_out, d_in). UserError if it does not fit."""
        labels = self.labels.unpack(count_units(shape, self.unit))
        members = self.members.unpack(len(self.units) * self.labels.k).reshape(len(self.units), -1).astype(bool)
        labels.flags.writeable = members.flags.writeable = False
        return EarlierClusters(self.unit, labels, self.units, self.sparsity, members)

    def to_dict(self) -> dict[str, object]:
        """In JSON's types."""
        own = {"unit": self.unit, "units": list(self.units), "sparsity": list(self.sparsity)}
        return {**own, "labels": self.labels.to_dict(), "members": self.members.to_dict()}

    @staticmethod
    def from_dict(values: object) -> TunedBeneath:
        """What `to_dict` gave. UserError for anything else."""
        values = _object(values, "Earlier clusters")
        check_keys(values, ("unit", "units", "sparsity", "labels", "members"), "set of earlier clusters", needed=True)
        unit, units = check_unit(_text(values["unit"], "unit")), _list(values["units"], "units")
        units = tuple(check_unit(_text(one, "unit")) for one in units)
        sparsity = tuple(check_sparsity(one) for one in _list(values["sparsity"], "sparsities"))
        labels, members = PackedLabels.from_dict(values["labels"]), PackedLabels.from_dict(values["members"])
        size = len(units) * labels.k
        alike = len(sparsity) == len(units) > 0 and (unit == "weight" or set(units) == {unit})
        if not alike or members.k != 2 or members.units != size or size > _MOST_MEMBERS:
            raise UserError("The earlier clusters of a layer do not fit each other; save the recipe again.")
        return TunedBeneath(unit, labels, units, sparsity, members)


@dataclass(frozen=True)
class TunedClusters:
    """A packed `ClusterPlan`.

    unit, sparsity, tags: as there. labels: packed. beneath: None where no earlier clustering has a say.
    """

    unit: str
    labels: PackedLabels
    sparsity: tuple[float | None, ...]
    tags: tuple[Tag, ...] = ()
    beneath: TunedBeneath | None = None

    @staticmethod
    def of(clusters: ClusterPlan) -> TunedClusters:
        """Packed."""
        beneath = None if clusters.beneath is None else TunedBeneath.of(clusters.beneath)
        labels = pack_labels(clusters.labels, clusters.k)
        return TunedClusters(clusters.unit, labels, clusters.sparsity, clusters.tags, beneath)

    def unpack(self, shape: tuple[int, int]) -> ClusterPlan:
        """For a layer of this shape (d_out, d_in). UserError if it does not fit."""
        labels = self.labels.unpack(count_units(shape, self.unit))
        beneath = None if self.beneath is None else self.beneath.unpack(shape)
        return ClusterPlan(self.unit, labels, self.sparsity, beneath, self.tags)

    def to_dict(self) -> dict[str, object]:
        """In JSON's types."""
        values: dict[str, object] = {"unit": self.unit, "sparsity": list(self.sparsity)}
        if self.tags:
            values["tags"] = [{"name": tag.name, "look": tag.look, "locked": tag.locked} for tag in self.tags]
        values["labels"] = self.labels.to_dict()
        if self.beneath is not None:
            values["beneath"] = self.beneath.to_dict()
        return values

    @staticmethod
    def from_dict(values: object) -> TunedClusters:
        """What `to_dict` gave. UserError for anything else."""
        values = {"tags": [], "beneath": None, **_object(values, "Clusters")}
        check_keys(values, ("unit", "sparsity", "labels", "tags", "beneath"), "set of clusters", needed=True)
        given = _list(values["sparsity"], "sparsities")
        sparsity = tuple(None if one is None else check_sparsity(one) for one in given)
        tags = tuple(_tag(one) for one in _list(values["tags"], "names"))
        labels = PackedLabels.from_dict(values["labels"])
        if labels.k != len(sparsity) or (tags and len(tags) != len(sparsity)):
            raise UserError(
                f"There are labels of {labels.k:,} clusters, {len(sparsity):,} sparsities and {len(tags):,} "
                "names, but each cluster has one of each; save the recipe again."
            )
        beneath = None if values["beneath"] is None else TunedBeneath.from_dict(values["beneath"])
        return TunedClusters(check_unit(_text(values["unit"], "unit")), labels, sparsity, tags, beneath)


@dataclass(frozen=True)
class TunedLayer:
    """What a person set for one layer, in the place of what the rest of the recipe says of it.

    Attributes:
        name: of the layer.
        sparsity: 0–1, of the whole layer.
        granularity: "layer", "row", "column" or N:M; "" leaves it to the recipe.
        count: exactly how many weights go, before the sparsity; None leaves it to that.
        clusters: their sparsities, where they have any, go before both.
        adjusted: whether nobody chose this: the layer made up for others.

    Raises:
        UserError: a value out of range or of the wrong kind.
    """

    name: str
    sparsity: float
    granularity: str = ""
    count: int | None = None
    clusters: TunedClusters | None = None
    adjusted: bool = False

    def __post_init__(self) -> None:
        check_switch(self.adjusted, "Whether a layer was adjusted")
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"A layer set by hand has a name, not {brief(self.name)}.")
        object.__setattr__(self, "sparsity", check_sparsity(self.sparsity))
        if self.granularity != "":
            check_granularity(self.granularity)
        if self.count is not None:
            count = whole(self.count, "The number of weights to remove from a layer", 0, _MOST_WEIGHTS)
            object.__setattr__(self, "count", count)

    @staticmethod
    def of(layer: LayerPlan, *, adjusted: bool = False) -> TunedLayer:
        """The layer as a plan has it."""
        clusters = None if layer.clusters is None else TunedClusters.of(layer.clusters)
        return TunedLayer(layer.name, layer.sparsity, layer.granularity, layer.count, clusters, adjusted)

    def plan(self, known: LayerPlan, shape: tuple[int, int]) -> LayerPlan:
        """The layer's plan.

        Args:
            known: what the rest of the recipe says of the layer.
            shape: (d_out, d_in).

        Raises:
            UserError: the layer has another shape than the one that was set by hand.
        """
        granularity = self.granularity or known.granularity
        check_n_m(granularity, shape[1], self.name)
        weights = shape[0] * shape[1]
        if self.count is not None and self.count > weights:
            raise UserError(f"Layer {self.name} has {weights:,} weights, of which {self.count:,} cannot go.")
        try:
            clusters = None if self.clusters is None else self.clusters.unpack(shape)
        except UserError as error:
            raise UserError(f"Layer {self.name}: {error}") from error
        return LayerPlan(self.name, granularity, known.g_out, self.sparsity, clusters, self.count)

    def to_dict(self) -> dict[str, object]:
        """In JSON's types."""
        values: dict[str, object] = {"layer": self.name, "sparsity": self.sparsity}
        if self.granularity:
            values["granularity"] = self.granularity
        if self.count is not None:
            values["count"] = self.count
        if self.clusters is not None:
            values["clusters"] = self.clusters.to_dict()
        if self.adjusted:
            values["adjusted"] = True
        return values

    @staticmethod
    def from_dict(values: object) -> TunedLayer:
        """What `to_dict` gave; "layer" and "sparsity" suffice. UserError for anything else."""
        values = _object(values, "A layer set by hand")
        check_keys(values, ("layer", "sparsity", "granularity", "count", "clusters", "adjusted"), "layer set by hand")
        if "layer" not in values or "sparsity" not in values:
            raise UserError('A layer set by hand needs a name and a sparsity: {"layer": "…", "sparsity": 0.4}.')
        clusters = values.get("clusters")
        return TunedLayer(
            _text(values["layer"], "name"),
            values["sparsity"],
            _text(values.get("granularity", ""), "granularity"),
            values.get("count"),
            None if clusters is None else TunedClusters.from_dict(clusters),
            values.get("adjusted", False),
        )


def read_tuned(given: object) -> tuple[TunedLayer, ...]:
    """Layers set by hand, from objects as JSON has them or `TunedLayer`s, each once.

    Raises:
        UserError: anything else, or a layer that is named twice.
    """
    if not isinstance(given, list | tuple):
        raise UserError(f"Layers set by hand are a list, not {brief(given)}.")
    layers = tuple(one if isinstance(one, TunedLayer) else TunedLayer.from_dict(one) for one in given)
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise UserError(f"Layer {brief(layer.name)} is set by hand twice; keep one of the entries.")
        seen.add(layer.name)
    return layers


def named_layers(tuned: Iterable[TunedLayer], names: Iterable[str]) -> None:
    """UserError if a layer set by hand is none of the model's."""
    known = set(names)
    for one in tuned:
        if one.name not in known:
            raise UserError(
                f"The recipe sets layer {brief(one.name)} by hand, which this model does not have; open the model that "
                "it was made for."
            )


def _tag(values: object) -> Tag:
    values = {"locked": False, **_object(values, "The name of a cluster")}
    check_keys(values, ("name", "look", "locked"), "cluster's name", needed=True)
    name, locked = _text(values["name"], "name"), values["locked"]
    if not name.strip() or len(name) > _MOST_CHARACTERS or _CONTROL.search(name):
        raise UserError(f"A cluster's name is one line of 1 to {_MOST_CHARACTERS} characters, unlike {brief(name)}.")
    if not isinstance(locked, bool):
        raise UserError(f"A cluster is locked or not, true or false, not {brief(locked)}.")
    return Tag(name, whole(values["look"], "The colour of a cluster", 0, _MOST_LOOKS), locked)


def _object(values: object, what: str) -> Mapping[str, object]:
    if not isinstance(values, Mapping):
        raise UserError(f"{what} must be a JSON object, not {brief(values)}.")
    return values


def _list(values: object, what: str) -> list:
    if not isinstance(values, list) or len(values) > _MOST_CLUSTERS:
        raise UserError(
            f"The {what} of clusters are a list of at most {_MOST_CLUSTERS:,} entries, not {brief(values)}."
        )
    return values


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"A {what} is a text, not {brief(value)}.")
    check_text(value, f"A {what}")
    return value
