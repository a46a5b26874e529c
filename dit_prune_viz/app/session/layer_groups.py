"""Groups of a model's layers: by kind, by block, found in the weight–activation plane, or drawn by hand; and the verbs
that change them or how sparse they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dit_prune_viz.app.session.layer_edits import set_layers, spread_layers, within_limits
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief, whole
from dit_prune_viz.clustering.algorithms import ALGORITHMS
from dit_prune_viz.clustering.clusters import MAX_K, Clusters, Tag
from dit_prune_viz.clustering.clusters import cluster as find_clusters
from dit_prune_viz.clustering.edit import BY_HAND, carve, match, merge, split, with_tag
from dit_prune_viz.clustering.units import LAYER
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.layers import Layer

BY_KIND, BY_BLOCK = "by kind", "by block"


def groups_of(session: Session) -> Clusters:
    """The groups of the session's layers, by kind unless somebody chose others. UserError without a model."""
    model, groups = session.need_model(), session.groups
    if groups is not None and len(groups.labels) == len(model.layers):
        return groups
    return _named(model.layers, BY_KIND, lambda layer: layer.kind)


def layer_plane(session: Session) -> np.ndarray:
    """log10 of weight scale and of activation norm of every layer, float64 (layers, 2).

    Zeros lie at the smallest positive value of their axis. UserError unless the model is calibrated.
    """
    model = session.need_calibration()[0]
    known = [session.layer_statistics[layer.name] for layer in model.layers]
    return np.stack([_log10([one.weight_scale for one in known]), _log10([one.activation_norm for one in known])], 1)


def weights_alone(session: Session) -> np.ndarray:
    """log10 of weight scale, and the magnitude damage, of every layer before calibration, float64 (layers, 2)."""
    known = [session.layer_statistics[layer.name] for layer in session.need_model().layers]
    return np.stack([_log10([one.weight_scale for one in known]), [one.magnitude_damage for one in known]], 1)


def group_layers(session: Session, by: str, k: int | None = None) -> Session:
    """Group the layers anew. No mask changes.

    Args:
        session: with a model; calibrated, unless they are grouped by kind or block.
        by: BY_KIND, BY_BLOCK, or one of ALGORITHMS, which group them in the weight–activation plane.
        k: how many groups an algorithm is to find; None lets it choose. Groups found before keep their ids, names,
            looks and locks as far as they overlap with new ones.

    Raises:
        UserError: no model or calibration, an unknown way, k out of range.
    """
    layers, before = session.need_model().layers, session.groups
    if by == BY_KIND:
        return replace(session, groups=_named(layers, by, lambda layer: layer.kind))
    if by == BY_BLOCK:
        return replace(session, groups=_named(layers, by, lambda layer: layer.place))
    if by not in ALGORITHMS:
        raise UserError(f"Layers cannot be grouped by {brief(by)}; choose kind, block or an algorithm.")
    k = None if k is None else whole(k, "The number of groups", 1, min(MAX_K, len(layers)))
    found = find_clusters(layer_plane(session), unit=LAYER, algorithm=by, k=k)
    found = replace(found, tags=tuple(replace(tag, name=f"group {i}") for i, tag in enumerate(found.tags)))
    same_kind = before is not None and before.algorithm in (*ALGORITHMS, BY_HAND)
    return replace(session, groups=_renamed(match(found, before)) if same_kind else found)


def set_group(
    session: Session, group: int, sparsity: float, *, keep_overall: bool = False, progress: Progress | None = None
) -> Session:
    """All layers of a group at one sparsity, as near as the recipe's bounds let each come.

    Layers that the recipe keeps dense or prunes N:M stay as they are. With `keep_overall` the layers of the other
    groups make up for it, except those of locked groups; see `set_layers`.

    Raises:
        UserError: no plan, an unknown group, one with no layer that can be set, and as in `set_layers`.
    """
    groups = groups_of(session)
    names = members(session, group)
    wanted = within_limits(session, names, sparsity)
    if not wanted:
        raise UserError(
            f"No layer of {groups.tags[group].name} has a sparsity to choose: the recipe fixes all of them."
        )
    # Its own layers that cannot be set do not make up for it either.
    still = {*locked_layers(session), *names}
    return set_layers(session, wanted, keep_overall=keep_overall, locked=still, progress=progress)


def spread_groups(session: Session, progress: Progress | None = None) -> Session:
    """The pruned weights of all groups that are not locked shared out among their layers for the least damage.

    Raises:
        UserError: no plan, or fewer than two layers that can change.
    """
    model = session.need_plan()[0]
    names = [layer.name for layer in model.layers]
    return spread_layers(session, names, locked=locked_layers(session), progress=progress)


def group_of_selection(session: Session, layers: np.ndarray) -> Session:
    """The selected layers, by index, as a group of their own. UserError for none, or layers the model has not."""
    layers, groups = np.asarray(layers, dtype=np.int64), groups_of(session)
    if not layers.size:
        raise UserError("Nothing is selected. Draw around some dots first.")
    if layers.min() < 0 or layers.max() >= len(groups.labels):
        raise UserError("The selection belongs to another model; select again.")
    return replace(session, groups=carve(groups, layers))


def tag_group(session: Session, group: int, **changes) -> Session:
    """Another name, look or lock for one group, see `with_tag`."""
    return replace(session, groups=with_tag(groups_of(session), group, **changes))


def merge_groups(session: Session, ids: Sequence[int]) -> Session:
    """Several groups made one. UserError as in `merge`."""
    return replace(session, groups=merge(groups_of(session), ids))


def split_group(session: Session, group: int) -> Session:
    """One group parted in two by k-means in the weight–activation plane. UserError as in `split`."""
    return replace(session, groups=split(groups_of(session), group, layer_plane(session)))


def members(session: Session, group: int) -> list[str]:
    """The names of a group's layers. UserError for an unknown group."""
    groups = groups_of(session)
    group = whole(group, "The group of layers", 0, groups.k - 1)
    return [layer.name for layer, own in zip(session.model.layers, groups.labels, strict=True) if own == group]


def locked_layers(session: Session) -> set[str]:
    """The layers of all groups that are locked."""
    groups = groups_of(session)
    locked = np.array([tag.locked for tag in groups.tags])[groups.labels]
    return {layer.name for layer, own in zip(session.model.layers, locked, strict=True) if own}


def grouping_id(session: Session | None) -> str | None:
    """A short name for how the layers are grouped, which says what a slider was meant for; None without a plan."""
    if session is None or session.plan is None:
        return None
    return partition_id(session)


def partition_id(session: Session) -> str:
    """A short name for which layers are together. UserError without a model."""
    groups = groups_of(session)
    return f"{session.model.number}-layers-{groups.k}-{zlib.crc32(groups.labels):08x}"


def map_subject(session: Session | None) -> str:
    """Names what a selection of layers is of, see `layer_subject.subject`; empty without layers."""
    if session is None or session.model is None:
        return ""
    return f"{session.model.number}//{LAYER}s-{len(session.model.layers)}"


def _named(layers: Sequence[Layer], by: str, name: Callable[[Layer], str]) -> Clusters:
    names = list(dict.fromkeys(map(name, layers)))
    labels = np.array([names.index(name(layer)) for layer in layers], dtype=np.int32)
    return Clusters(LAYER, by, labels, len(names), tags=tuple(Tag(one, look) for look, one in enumerate(names)))


def _renamed(groups: Clusters) -> Clusters:
    """Groups that `match` has called clusters as the page calls them."""
    tags = tuple(replace(tag, name=tag.name.replace("cluster ", "group ", 1)) for tag in groups.tags)
    return replace(groups, tags=tags)


def _log10(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    positive = array[array > 0]
    return np.log10(np.maximum(array, positive.min() if positive.size else 1.0))
