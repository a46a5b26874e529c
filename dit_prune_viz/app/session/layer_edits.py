"""Verbs on a session that set how sparse whole layers are, by hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from dit_prune_viz.app.session.cluster_edits import budget
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.formatting import percent
from dit_prune_viz.masks.counts import check_sparsity, removed
from dit_prune_viz.masks.groups import n_of_m, removed_in_layer
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.allocation.cost import LayerCost
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.pruning.limits import Limits, find_limits
from dit_prune_viz.pruning.prune import rank_again
from dit_prune_viz.pruning.redistribute import redistribute
from dit_prune_viz.pruning.scores import Scores


def set_layers(
    session: Session,
    sparsities: Mapping[str, float],
    *,
    keep_overall: bool = False,
    locked: Collection[str] = (),
    progress: Progress | None = None,
) -> Session:
    """Whole layers at sparsities of their own, which count as set by hand from now on.

    A layer whose clusters have sparsities of their own keeps the clusters: locked ones lose what they lose now, and the
    others share the change by the room they have. All layers that are neither named nor needed to make up for the
    change keep their masks bit for bit; of a large model no mask is made.

    Args:
        session: with a plan.
        sparsities: layer → 0–1; every group of the layer loses that share, rounded down.
        keep_overall: whether other layers make up for the change, so that the model loses exactly as many weights as
            before. They share it by the room they have. Layers with cluster sparsities of their own, dense layers and
            those pruned N:M stay as they are.
        locked: names of layers that do not make up for anything.
        progress: called while masks are made; may raise `Cancelled`.

    Returns:
        The new session; the same one if nothing changes.

    Raises:
        UserError: no plan, an unknown layer, a sparsity outside 0–1 or outside the recipe's bounds, a layer that the
            recipe keeps dense or prunes N:M, locked clusters that are in the way, too little room to make up for it.
    """
    model = session.need_plan()[0]
    wanted = {model.layer(name).name: check_sparsity(sparsity) for name, sparsity in sparsities.items()}
    limits, now = _limits(session), _removed_now(session)
    changed: dict[str, LayerPlan] = {}
    others: dict[str, LayerPlan] = {}
    losing: dict[str, int] = {}
    for name, sparsity in wanted.items():
        changed[name], losing[name] = _set(session, name, sparsity, limits, now[name])
    if keep_overall and losing:
        free = [name for name in _free(session, limits) if name not in losing and name not in set(locked)]
        counts = _made_up(session, free, losing, limits, now)
        others = {name: _with_count(session, name, count) for name, count in counts.items()}
    return _with(session, changed, progress, others)


def spread_layers(
    session: Session, layers: Iterable[str], *, locked: Collection[str] = (), progress: Progress | None = None
) -> Session:
    """The pruned weights of some layers shared out among them so that predicted damage is least; their sum stays.

    The damage of each layer counts by its number of weights, as in the report. Dense layers, those pruned N:M and those
    with cluster sparsities of their own stay as they are.

    Args:
        session: with a plan.
        layers: their names.
        locked: names of layers that stay as they are.
        progress: called while layers are measured and masks are made; may raise `Cancelled`.

    Returns:
        The new session; the same one if nothing changes.

    Raises:
        UserError: no plan, an unknown layer, or fewer than two layers that can change.
    """
    model, _, plan = session.need_plan()
    named = {model.layer(name).name for name in layers}
    limits, now = _limits(session), _removed_now(session)
    free = [name for name in _free(session, limits) if name in named and name not in set(locked)]
    if len(free) < 2:
        raise UserError("There is nothing to spread: at least two layers must be neither locked nor fixed.")
    measures = Scores(plan.recipe, session.statistics).measures("uniform")
    none, costs = np.zeros(0), []
    for name, curve in measures.curves({name: plan.layers[name].granularity for name in free}, progress).items():
        size, (low, high) = model.layer(name).weights, _range(session, name, limits, now[name])
        costs.append(LayerCost(name, size, curve.removed, curve.lost, none, none, weight=size, floor=low, ceiling=high))
    counts = find_method(Allocation, "damage-aware").counts(costs, sum(now[name] for name in free))
    changed = {name: _with_count(session, name, count) for name, count in counts.items() if count != now[name]}
    return _with(session, changed, progress)


def movable_layers(session: Session, layers: Iterable[str] | None = None) -> tuple[str, ...]:
    """Those of the layers, all unless named, whose sparsity can be set: neither dense by the recipe nor pruned N:M.

    Raises:
        UserError: no plan.
    """
    plan, dense = session.need_plan()[2], _limits(session).dense
    names = plan.layers if layers is None else layers
    return tuple(name for name in names if name not in dense and not n_of_m(plan.layer(name).granularity))


def within_limits(session: Session, layers: Iterable[str], sparsity: float) -> dict[str, float]:
    """What `set_layers` can be asked for when a slider stands for several layers.

    Args:
        session: with a plan.
        layers: their names.
        sparsity: that they are to have, 0–1.

    Returns:
        Layer → sparsity, as near as the recipe's bounds let each come; without layers that the recipe keeps dense or
        prunes N:M.

    Raises:
        UserError: no plan, an unknown layer, a sparsity outside 0–1.
    """
    plan, sparsity, limits = session.need_plan()[2], check_sparsity(sparsity), _limits(session)
    found = {}
    for name in layers:
        if name in limits.dense or n_of_m(plan.layer(name).granularity):
            continue
        weights = session.model.layer(name).weights
        low, high = limits.of(name, weights)
        found[name] = min(max(sparsity, low / weights), high / weights)
    return found


def _set(session: Session, name: str, sparsity: float, limits: Limits, now: int) -> tuple[LayerPlan, int]:
    """The layer's plan at a sparsity, and how many weights it loses then."""
    layer, own = session.model.layer(name), session.plan.layer(name)
    count = removed(layer.weights, sparsity)
    if count == now and (name in limits.dense or n_of_m(own.granularity)):
        return own, now
    if name in limits.dense:
        raise UserError(f"The recipe keeps layer {name} dense; take it off the recipe's dense layers first.")
    if n_of_m(own.granularity):
        raise UserError(
            f"Layer {name} is pruned {own.granularity}, which fixes its sparsity; rank by layer, row or column first."
        )
    low, high = limits.of(name, layer.weights)
    allowed = min(max(count, low), high)
    if abs(allowed - count) > 1:  # a bound between two counts is off by less than one weight
        raise UserError(
            f"The recipe's bounds let layer {name} lose {percent(low / layer.weights, 4)} to "
            f"{percent(high / layer.weights, 4)} of its weights, not {percent(sparsity, 4)}; change the bounds first."
        )
    if _ruled(own):
        return _shifted(session, name, allowed)
    lost = removed_in_layer(layer.shape, own.granularity, sparsity)
    if not low <= lost <= high:
        return _with_count(session, name, allowed), allowed
    same = own.count is None and own.sparsity == sparsity
    return own if same else own.with_sparsity(sparsity), lost


def _shifted(session: Session, name: str, count: int) -> tuple[LayerPlan, int]:
    """The plan of a layer with cluster sparsities of its own that loses `count` weights, and how many it does lose.

    The two differ by less than a row (or column) where clusters of rows are ranked row by row.
    """
    own, shown = session.plan.layer(name), session.clusters.get(name)
    clusters = own.clusters
    tags = shown.tags if shown is not None and shown.labels is clusters.labels else clusters.tags
    locked = [i for i, tag in enumerate(tags) if tag.locked]
    sizes, counts, steps = budget(session, name, clusters)
    fixed = sum(counts[i] for i in locked)
    open_to = fixed + sum(size for i, size in enumerate(sizes) if i not in locked)
    if not fixed <= count <= open_to:
        weights = sum(sizes)
        raise UserError(
            f"With its locked clusters layer {name} loses {percent(fixed / weights, 4)} to "
            f"{percent(open_to / weights, 4)} of its weights; unlock a cluster first."
        )
    if count == sum(counts):
        return own, sum(counts)
    # One more part, as large as the layer, holds what the clusters are to gain or lose.
    weights = sum(sizes)
    new = redistribute(
        [*sizes, weights],
        [*counts, weights - sum(counts)],
        clusters.k,
        weights - count,
        locked=locked,
        steps=[*steps, 1],
    )[:-1]
    for i in range(clusters.k):
        if new[i] != counts[i]:
            clusters = clusters.with_sparsity(i, new[i] / sizes[i])
    return replace(own, clusters=clusters), sum(new)


def _made_up(
    session: Session, free: list[str], losing: Mapping[str, int], limits: Limits, now: Mapping[str, int]
) -> dict[str, int]:
    """How many weights the free layers lose that have to change so that the model loses as many as now."""
    before, after = sum(now[name] for name in losing), sum(losing.values())
    if before == after:
        return {}
    ranges = {name: _range(session, name, limits, now[name]) for name in free}
    room = sum(now[name] - low if after > before else high - now[name] for name, (low, high) in ranges.items())
    if room < abs(after - before):
        raise UserError(
            f"The other layers can make up for {room:,} of {abs(after - before):,} weights only; unlock some, or let "
            "the overall sparsity change."
        )
    sizes = [sum(session.model.layer(name).weights for name in losing), *(high - low for low, high in ranges.values())]
    counts = [before, *(now[name] - low for name, (low, _) in ranges.items())]
    shared = redistribute(sizes, counts, 0, after)[1:]
    lost = {name: ranges[name][0] + count for name, count in zip(free, shared, strict=True)}
    return {name: count for name, count in lost.items() if count != now[name]}


def _with(
    session: Session,
    changed: Mapping[str, LayerPlan],
    progress: Progress | None,
    others: Mapping[str, LayerPlan] | None = None,
) -> Session:
    """The session with layers that were set, and others that make up for them."""
    plan = session.plan
    own, others = (
        {name: layer for name, layer in (found or {}).items() if layer is not plan.layers[name]}
        for found in (changed, others)
    )
    if not own and not others:
        return session
    plan = plan.with_layers(own, others)
    known = session.statistics.reporting(progress)
    return replace(session, pruned=rank_again(session.pruned, plan, known, later=True))


def _with_count(session: Session, name: str, count: int) -> LayerPlan:
    return replace(session.plan.layer(name), sparsity=count / session.model.layer(name).weights, count=count)


def _free(session: Session, limits: Limits) -> list[str]:
    """The layers that can be set to any count."""
    return [
        name
        for name, own in session.plan.layers.items()
        if name not in limits.dense and not n_of_m(own.granularity) and not _ruled(own)
    ]


def _ruled(own: LayerPlan) -> bool:
    """Whether clusters decide about some of the layer's weights."""
    return own.clusters is not None and own.clusters.decides


def _range(session: Session, name: str, limits: Limits, now: int) -> tuple[int, int]:
    """The least and the most weights that a layer may lose; what it loses now, it may."""
    low, high = limits.of(name, session.model.layer(name).weights)
    return min(low, now), max(high, now)


def _limits(session: Session) -> Limits:
    recipe = session.plan.recipe
    return find_limits(recipe.ignore, recipe.bounds, session.model.layers)


def _removed_now(session: Session) -> dict[str, int]:
    return {layer.name: layer.removed for layer in session.report.layers}
