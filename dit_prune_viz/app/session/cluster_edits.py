"""Verbs on a session that change one layer's clusters or how sparse they are. No mask changes unless it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.edit import BY_HAND, carry, carve, merge, split, with_tag
from dit_prune_viz.clustering.units import check_unit
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.damage import Labelled
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.update_cluster import update_cluster
from dit_prune_viz.pruning.allocate_clusters import allocate_clusters
from dit_prune_viz.pruning.redistribute import redistribute
from dit_prune_viz.pruning.report import report_layer


def set_sparsity(session: Session, layer: str, cluster: int, sparsity: float, *, keep_layer: bool = False) -> Session:
    """One cluster at another sparsity, and the mask of its layer with it.

    With `keep_layer` the clusters that are not locked make up for it, so that the layer loses as many weights as
    before: exactly, except that clusters whose rows (or columns) are each ranked by themselves change by whole rows.
    Clusters that are not touched keep their mask bit for bit. UserError for an unknown cluster, a sparsity outside 0–1,
    N:M, and nothing left to make up for it.
    """
    clusters = session.need_clusters(layer)
    cluster = whole(cluster, f"The cluster of layer {layer}", 0, clusters.k - 1)
    sparsity = check_sparsity(sparsity)
    if not keep_layer:
        return set_sparsities(session, layer, {cluster: sparsity})
    sizes, counts, steps = budget(session, layer)
    locked = [i for i, tag in enumerate(clusters.tags) if tag.locked]
    new = redistribute(sizes, counts, cluster, removed(sizes[cluster], sparsity), locked=locked, steps=steps)
    changed = {i: new[i] / sizes[i] for i in range(clusters.k) if new[i] != counts[i]}
    return set_sparsities(session, layer, changed)


def budget(session: Session, layer: str, clusters: Labelled | None = None) -> tuple[list[int], list[int], list[int]]:
    """Of every cluster: its weights, how many of them are pruned, and by how many at once that can change.

    The clusters are those that are shown unless others of the layer are given.
    """
    clusters, shape = clusters or session.need_clusters(layer), session.need_model().layer(layer).shape
    rows = session.cluster_rows(layer, clusters)
    granularity = session.need_plan()[2].layer(layer).granularity
    alike = {("row", "row"), ("column", "column")}
    steps = [max(1, row.units) if (clusters.unit, granularity) in alike else 1 for row in rows]
    each = shape[0] * shape[1] // len(clusters.labels)
    sizes = [row.units * each for row in rows]
    return sizes, [round(row.sparsity * row.weights) for row in rows], steps


def set_sparsities(session: Session, layer: str, sparsities: Mapping[int, float]) -> Session:
    """Several clusters of a layer at sparsities of their own; all others keep the mask they have, bit for bit."""
    model, _, plan = session.need_plan()
    clusters = session.need_clusters(layer)
    if not sparsities:
        return session
    ruling = plan.layer(layer).clusters
    if ruling is None or ruling.labels is not clusters.labels:
        plan = plan.with_clusters(layer, clusters)
    mask, scores = session.masks[layer], session.scores(layer)
    granularity = plan.layer(layer).granularity
    for cluster, sparsity in sparsities.items():
        plan = plan.with_cluster_sparsity(layer, cluster, sparsity)
        mask = update_cluster(mask, scores, clusters.labels, cluster, sparsity, granularity, clusters.unit)
    report = report_layer(plan.layer(layer), mask, model.weight(layer), session.mean_square(layer))
    layers = session.pruned.layers.changed({layer: PrunedLayer(mask)})
    pruned = replace(session.pruned, plan=plan, layers=layers, report=session.report.with_layer(report))
    return replace(session, pruned=pruned)


def spread(session: Session, layer: str) -> Session:
    """The layer's pruned weights shared out among its unlocked clusters so that predicted damage is least."""
    model, _, plan = session.need_plan()
    clusters = session.need_clusters(layer)
    layer_plan = plan.with_clusters(layer, clusters).layer(layer)
    if n_of_m(layer_plan.granularity):
        raise UserError(f"{layer_plan.granularity} fixes the sparsity, so clusters cannot have one of their own.")
    sizes, counts, _ = budget(session, layer)
    fixed = {i: counts[i] / sizes[i] for i, tag in enumerate(clusters.tags) if tag.locked and sizes[i]}
    allotted = allocate_clusters(
        layer_plan,
        session.scores(layer),
        model.weight(layer),
        session.mean_square(layer),
        sum(counts),
        floors=fixed,
        ceilings=fixed,
    )
    found = allotted.clusters.sparsity
    return set_sparsities(session, layer, {i: found[i] for i in range(clusters.k) if i not in fixed and sizes[i]})


def merge_clusters(session: Session, layer: str, ids: Sequence[int]) -> Session:
    """Several clusters made one. UserError as in `merge`."""
    return _with(session, layer, merge(session.need_clusters(layer), ids))


def split_cluster(session: Session, layer: str, cluster: int) -> Session:
    """One cluster parted in two by k-means in the weight–activation plane. UserError as in `split`."""
    clusters = session.need_clusters(layer)
    return _with(session, layer, split(clusters, cluster, layer_data.points(session, layer, clusters.unit)))


def cluster_of_selection(session: Session, layer: str, unit: str, units: np.ndarray) -> Session:
    """The selected units as a cluster of their own. UserError as in `carve`, or if the clusters are of other units."""
    clusters = session.need_clusters(layer)
    if clusters.unit != check_unit(unit):
        raise UserError(f"The selection is of {unit}s, but the clusters are of {clusters.unit}s; select again.")
    return _with(session, layer, carve(clusters, units))


def tag_cluster(session: Session, layer: str, cluster: int, **changes) -> Session:
    """Another name, look or lock for one cluster, see `with_tag`."""
    return _with(session, layer, with_tag(session.need_clusters(layer), cluster, **changes))


def apply_to_kind(session: Session, layer: str, progress: Progress | None = None) -> Session:
    """The layer's clusters and their sparsities for all layers of its kind.

    Each unit of another layer joins the cluster whose centre is nearest in the weight–activation plane, standardised
    per layer; then every cluster is pruned to the sparsity it has here. UserError for N:M.
    """
    model, _, plan = session.need_plan()
    clusters, kind = session.need_clusters(layer), model.layer(layer).kind
    if n_of_m(plan.layer(layer).granularity):
        raise UserError(
            f"{plan.layer(layer).granularity} fixes the sparsity, so clusters cannot have one of their own."
        )
    sizes, counts, _ = budget(session, layer)
    sparsities = {i: counts[i] / sizes[i] for i in range(clusters.k) if sizes[i]}
    here = layer_data.points(session, layer, clusters.unit)
    others = [other.name for other in model.layers if other.kind == kind and other.name != layer]
    for done, name in enumerate(others):
        if progress:
            progress(done, len(others), f"Carrying the clusters over to {name}")
        carried = carry(clusters, here, layer_data.points(session, name, clusters.unit))
        session = _with(session, name, carried)
        present = set(np.unique(carried.labels).tolist())
        session = set_sparsities(session, name, {i: s for i, s in sparsities.items() if i in present})
    return session


def _with(session: Session, layer: str, clusters: Clusters) -> Session:
    layer = session.need_model().layer(layer).name
    asked = session.asked.get(layer, (clusters.unit, BY_HAND, clusters.k))
    if clusters.algorithm == BY_HAND:
        asked = (clusters.unit, BY_HAND, clusters.k)
    return replace(session, clusters={**session.clusters, layer: clusters}, asked={**session.asked, layer: asked})
