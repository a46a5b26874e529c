"""What a side of a comparison is drawn with: the dense model, a session's pruned model, or one cluster left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dit_prune_viz.app.formatting import percent
from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.units import count_units, weights_of
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pruning.recipe_words import title_of

WITHOUT, ONLY = "without", "only"
_numbers = itertools.count(1).__next__


@dataclass(frozen=True, eq=False)
class DrawnModel:
    """Pruned layers on the dense weights.

    Attributes:
        name: short, for labels: "dense", "DiT-Pruning 50 %".
        layers: layer → pruned layer; empty for the dense model.
        number: of its own for every one, 0 for the dense model; its pictures are kept under it.
    """

    name: str
    layers: Mapping[str, PrunedLayer] = field(default_factory=dict)
    number: int = field(default_factory=_numbers)

    @property
    def parts(self) -> dict[int, int]:
        """The bytes of each layer, by identity: sessions share what they have in common."""
        return {id(layer.mask): layer.nbytes for layer in self.layers.values()}


DENSE = DrawnModel("dense", number=0)


def of_session(session: Session, progress: Progress | None = None) -> DrawnModel:
    """The session's pruned model: the one place where a session becomes what a picture is drawn with.

    Its searches and its update, if its recipe has any, are done now where they are not known yet.

    Raises:
        UserError: as in `finish`.
    """
    session.need_plan()
    return DrawnModel(name_of_session(session), finish(session, progress).layers)


def of_cluster(session: Session, layer: str, cluster: int, mode: str) -> DrawnModel:
    """The dense model without one cluster of a layer, or with nothing but that cluster left of the layer.

    `mode` WITHOUT prunes all weights of the cluster, ONLY all others of its layer; every other layer stays dense.

    Raises:
        UserError: a layer without clusters, an unknown cluster or mode.
    """
    if not layer:
        raise UserError("Choose a layer with clusters first; they are made on the Layer page.")
    clusters, shape = session.need_clusters(layer), session.model.layer(layer).shape
    cluster = whole(cluster, f"The cluster of layer {layer}", 0, clusters.k - 1)
    if mode not in (WITHOUT, ONLY):
        raise UserError(f"A cluster is either pruned ('{WITHOUT}') or all that is kept ('{ONLY}'), not {mode!r}.")
    labels = np.asarray(clusters.labels)
    if len(labels) != count_units(shape, clusters.unit):
        raise UserError("The clusters were made for a layer of another shape; cluster again.")
    chosen = labels == cluster
    keep = weights_of(chosen if mode == ONLY else ~chosen, tuple(shape), clusters.unit)
    what = f"{'only' if mode == ONLY else 'without'} {clusters.tags[cluster].name}"
    name = f"{what} · {layer.replace('transformer_blocks', 'blocks')}"
    return DrawnModel(name, {layer: PrunedLayer(pack(keep))})


def name_of_session(session: Session) -> str:
    """What makes the session's masks, in a few words."""
    name = f"{title_of(session.recipe)} {percent(session.report.achieved)}"
    by_hand = sum(session.plan.layer(layer).clusters is not None for layer in session.masks)
    return f"{name} + {by_hand} by hand" if by_hand else name
