"""A session tuned by hand at random: every verb of the Layer page, in any order."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np

from dit_prune_viz.app.session import cluster_edits
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.units import UNITS, count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.prune import rank_again
from dit_prune_viz.pruning.recipe import Recipe

_SALIENCIES = ("stw", "stw:1.5,1", "wanda", "magnitude", "ria")
_ALLOCATIONS = ("uniform", "owl", "tempered:0.6", "damage-aware", "global")
_PATTERNS = ("adaLN", "block 0", "*to_q", "mlp *", "blocks 1-2")


def random_recipe(random: Random, session: Session) -> Recipe:
    """A recipe of cheap methods for the session's model."""
    pattern = random.random() < 0.05
    limits = {}
    if random.random() < 0.4:
        limits["ignore"] = tuple(random.sample(_PATTERNS, random.randint(1, 2)))
    if random.random() < 0.4 and not pattern:
        limits["bounds"] = {random.choice(_PATTERNS): sorted((random.random() / 2, random.random()))}
    return Recipe(
        saliency=random.choice(_SALIENCIES),
        granularity="2:4" if pattern else random.choice(("auto", "cag", "layer", "row", "column")),
        sparsity=random.choice((0.3, 0.5, 0.62, random.random() / 2 + 0.1)),
        allocation="uniform" if pattern else random.choice(_ALLOCATIONS),
        timestep=random.choice(("uniform", "late")),
        centred=random.random() < 0.2,
        calibration=session.recipe.calibration,
        **limits,
    )


def random_edit(random: Random, session: Session) -> Session:
    """The session after one verb. UserError where it means nothing."""
    layer = random.choice([one.name for one in session.model.layers])
    known = [name for name in session.clusters if random.random() < 0.7]
    if known and random.random() < 0.8:
        layer = random.choice(known)
    if layer not in session.clusters or random.random() < 0.2:
        return _clustered(random, session, layer)
    clusters = session.clusters[layer]
    one = random.randrange(clusters.k)
    units = np.flatnonzero(np.random.default_rng(random.randrange(1000)).random(len(clusters.labels)) < 0.3)
    verbs = {
        "sparsity": lambda: cluster_edits.set_sparsity(session, layer, one, random.random()),
        "more": lambda: cluster_edits.set_sparsity(session, layer, one, random.choice((0, 0.25, 1))),
        "keep": lambda: cluster_edits.set_sparsity(session, layer, one, random.random(), keep_layer=True),
        "spread": lambda: cluster_edits.spread(session, layer),
        "merge": lambda: cluster_edits.merge_clusters(session, layer, [one, random.randrange(clusters.k)]),
        "split": lambda: cluster_edits.split_cluster(session, layer, one),
        "carve": lambda: cluster_edits.cluster_of_selection(session, layer, clusters.unit, units),
        "name": lambda: cluster_edits.tag_cluster(session, layer, one, name=f"part {random.randrange(99)} ✂ <b>"),
        "lock": lambda: cluster_edits.tag_cluster(session, layer, one, locked=random.random() < 0.7),
        "kind": lambda: cluster_edits.apply_to_kind(session, layer),
        "threshold": lambda: set_threshold(session, random.choice((None, 0.0, 0.05, random.random()))),
        "plan": lambda: _by_plan(random, session, layer),
    }
    return verbs[random.choice([*verbs, "sparsity", "keep", "spread"])]()


def random_session(seed: int, ready: Session, edits: int = 8) -> Session:
    """A calibrated session pruned by a random recipe, then edited by hand."""
    random = Random(seed)
    session = None
    while session is None:
        try:
            session = ready.prune(random_recipe(random, ready))
        except UserError:  # a budget that its bounds forbid, or 2:4 for inputs that are no multiple of 4
            continue
    for _ in range(random.randint(0, edits)):
        try:
            session = random_edit(random, session)
        except UserError:  # nothing to merge, N:M, every other cluster locked
            continue
    return session


def _clustered(random: Random, session: Session, layer: str) -> Session:
    """The layer clustered anew: found in its rows, or drawn at random, which is as good here and takes no time."""
    if random.random() < 0.2:
        return session.cluster(layer, "row", "kmeans", random.randint(2, 4))
    unit, k = random.choice(UNITS), random.randint(2, 5)
    units = count_units(session.model.layer(layer).shape, unit)
    labels = np.random.default_rng(random.randrange(1000)).integers(k, size=units)
    return replace(session, clusters={**session.clusters, layer: Clusters(unit, "kmeans", labels, k)})


def _by_plan(random: Random, session: Session, layer: str) -> Session:
    """One layer at another sparsity as a whole, which the library can do and the page cannot."""
    plan = session.plan.with_layer(session.plan.layer(layer).with_sparsity(random.random()))
    return replace(session, pruned=rank_again(session.pruned, plan, session.statistics))
