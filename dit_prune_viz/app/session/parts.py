"""Parts of a model that can be taken away to see what they do: blocks, kinds of layers, clusters, groups of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.layer_groups import groups_of, partition_id
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief, whole
from dit_prune_viz.clustering.units import count_units, weights_of
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pipelines.layers import OUTSIDE, Layer
from dit_prune_viz.pipelines.model import Model

BLOCKS, KINDS_OF_LAYERS, GROUPS, CLUSTERS = "block", "kind", "group", "cluster"
_NAMED = 8
"""So many parts are named in a sentence about one that is not there."""


@dataclass(frozen=True, eq=False)
class Part:
    """Weights that are pruned together, or kept alone.

    Attributes:
        key: tells it from the other parts of the model.
        name: for people: "block 3", "mlp in", "cluster 2 · blocks.0.attn.to_q".
        layers: layer → which of its weights belong to the part, 1 = belongs; None for all of them.
        among: the layers that it is a part of: what is pruned where it is kept alone, and what its predicted damage is
            a share of.
        detail: what it consists of, in a few words.
    """

    key: str
    name: str
    layers: Mapping[str, PackedMask | None]
    among: tuple[str, ...]
    detail: str = ""


def parts_of(session: Session, by: str, layer: str | None = None, chosen: Collection[str] = ()) -> tuple[Part, ...]:
    """The parts of the session's model.

    Args:
        session: with a model; with clusters, where these are the parts.
        by: BLOCKS, KINDS_OF_LAYERS, GROUPS or CLUSTERS.
        layer: whose clusters, for CLUSTERS.
        chosen: keys or names of those that are wanted; none of them stands for all.

    Raises:
        UserError: no model, another way to part it, a layer without clusters, an unknown key or name.
    """
    model = session.need_model()
    if by == BLOCKS:
        parts = block_parts(model)
    elif by == KINDS_OF_LAYERS:
        parts = kind_parts(model)
    elif by == GROUPS:
        parts = group_parts(session)
    elif by == CLUSTERS:
        parts = tuple(cluster_part(session, layer, i) for i in range(_clusters(session, layer).k))
    else:
        raise UserError(
            "A model is taken apart by block, by kind, by group of layers or by cluster of a layer; choose one of them."
        )
    if not chosen:
        return parts
    known = {word for part in parts for word in (part.key, part.name)}
    unknown = next((word for word in chosen if word not in known), None)
    if unknown is not None:
        some = ", ".join(part.name for part in parts[:_NAMED]) + (" …" if len(parts) > _NAMED else "")
        raise UserError(f"There is no part {brief(unknown)} now; choose again, from {some}.")
    return tuple(part for part in parts if part.key in chosen or part.name in chosen)


def block_parts(model: Model) -> tuple[Part, ...]:
    """A part for every block, in order of execution, named as the model names it."""
    named = ((_block_path(layer), layer) for layer in model.layers)
    return _grouped(model, ((path, path if layer.stack == OUTSIDE else layer.place, layer) for path, layer in named))


def kind_parts(model: Model) -> tuple[Part, ...]:
    """A part for every kind of layer that the model has, in the order of figures."""
    ordered = sorted(model.layers, key=lambda layer: KINDS.index(layer.kind))
    return _grouped(model, ((layer.kind, layer.kind, layer) for layer in ordered))


def group_parts(session: Session) -> tuple[Part, ...]:
    """A part for every group of layers that the Map shows, under the name it has there.

    Raises:
        UserError: no model.
    """
    groups, number = groups_of(session), partition_id(session)
    owned = zip(groups.labels.tolist(), session.model.layers, strict=True)
    ordered = sorted(owned, key=lambda pair: pair[0])
    # Two groups may bear one name, and a number means another group once the layers are grouped anew.
    return _grouped(
        session.model, ((f"{GROUPS}\n{number}\n{own}", groups.tags[own].name, layer) for own, layer in ordered)
    )


def cluster_part(session: Session, layer: str, cluster: int) -> Part:
    """One cluster of a layer; the rest is the rest of its layer.

    Raises:
        UserError: a layer without clusters, an unknown cluster.
    """
    clusters, shape = _clusters(session, layer), tuple(session.model.layer(layer).shape)
    cluster = whole(cluster, f"The cluster of layer {layer}", 0, clusters.k - 1)
    labels = np.asarray(clusters.labels)
    if len(labels) != count_units(shape, clusters.unit):
        raise UserError("The clusters were made for a layer of another shape; cluster again.")
    members = pack(weights_of(labels == cluster, shape, clusters.unit))
    name = f"{clusters.tags[cluster].name} · {layer.replace('transformer_blocks', 'blocks')}"
    size = int(clusters.sizes[cluster])
    units = f"{size:,} {clusters.unit}{'' if size == 1 else 's'}"
    key = f"{CLUSTERS}\n{layer}\n{cluster}"
    return Part(key, name, {layer: members}, (layer,), f"{units} · {formatting.count(members.kept)} weights")


def _clusters(session: Session, layer: str | None):
    if not layer:
        raise UserError("Choose a layer with clusters first; they are made on the Layer page.")
    return session.need_clusters(layer)


def _grouped(model: Model, layers: Iterable[tuple[str, str, Layer]]) -> tuple[Part, ...]:
    """Parts of layers that share a key, from (key, name, layer)."""
    among = tuple(layer.name for layer in model.layers)
    found: dict[str, list[tuple[str, Layer]]] = {}
    for key, name, layer in layers:
        found.setdefault(key, []).append((name, layer))
    return tuple(
        Part(
            key,
            members[0][0],
            dict.fromkeys(layer.name for _, layer in members),
            among,
            _detail(key, [layer for _, layer in members]),
        )
        for key, members in found.items()
    )


def _detail(key: str, layers: list[Layer]) -> str:
    size = f"{len(layers)} layer{'' if len(layers) == 1 else 's'}"
    weights = f"{formatting.count(sum(layer.weights for layer in layers))} weights"
    path = key.replace("transformer_blocks", "blocks")
    return " · ".join([path, size, weights] if key == _block_path(layers[0]) else [size, weights])


def _block_path(layer: Layer) -> str:
    """What the model calls the block: "single_transformer_blocks.3"; for layers outside the blocks, their place."""
    if layer.stack == OUTSIDE:
        return f"{OUTSIDE} {layer.block}"
    return f"{layer.stack}.{layer.name.removeprefix(f'{layer.stack}.').partition('.')[0]}"
