"""What a side of a comparison is drawn with: the dense model, a session's masks, or the masks of a single cluster."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.weight_updates import update
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.units import count_units, weights_of
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import UpdatedWeights

WITHOUT, ONLY = "without", "only"
_numbers = itertools.count(1).__next__


@dataclass(frozen=True, eq=False)
class Variant:
    """Masks and updates on the dense weights.

    name: short, for labels: "dense", "DiT-Pruning 50 %". number: of its own for every variant, 0 for the dense model;
    its pictures are kept under it.
    """

    name: str
    masks: Mapping[str, PackedMask] = field(default_factory=dict)
    updates: Mapping[str, UpdatedWeights] = field(default_factory=dict)
    number: int = field(default_factory=_numbers)

    @property
    def parts(self) -> dict[int, int]:
        """The bytes of each mask and update, by identity: sessions share what they have in common."""
        return {
            **{id(mask): mask.bits.nbytes for mask in self.masks.values()},
            **{id(update): update.nbytes for update in self.updates.values()},
        }


DENSE = Variant("dense", number=0)


def of_session(session: Session, progress: Progress | None = None) -> Variant:
    """The session's pruned model: the one place where a session becomes what a picture is drawn with.

    Its weight update, if its settings have one, is made now where it is not known yet. UserError as in `update`;
    `progress` may raise Cancelled.
    """
    session.need_plan()
    if not session.settings.finishes:
        return Variant(name_of_masks(session), masks=session.masks)
    with session.workspace.turn(progress):
        updates = update(session, progress)
    found = {layer: updates[layer].mask if layer in updates else mask for layer, mask in session.masks.items()}
    return Variant(name_of_masks(session), masks=found, updates=updates)


def of_cluster(session: Session, layer: str, cluster: int, mode: str) -> Variant:
    """The dense model without one cluster of a layer, or with nothing but that cluster left of the layer.

    `mode` WITHOUT prunes all weights of the cluster, ONLY all others of its layer; every other layer stays dense.
    UserError for a layer without clusters, an unknown cluster or mode.
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
    return Variant(f"{what} · {layer.replace('transformer_blocks', 'blocks')}", masks={layer: pack(keep)})


def name_of_masks(session: Session) -> str:
    """What makes the session's masks, in a few formatting."""
    settings, report, plan = session.settings, session.report, session.plan
    name = f"{settings.title} {formatting.percent(report.achieved)}"
    by_hand = sum(plan.layer(layer).clusters is not None for layer in session.masks)
    return f"{name} + {by_hand} by hand" if by_hand else name
