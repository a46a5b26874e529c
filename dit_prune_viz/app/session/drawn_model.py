"""What a side of a comparison is drawn with: the dense model, a session's pruned model, or one part left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dit_prune_viz.app.formatting import percent
from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.parts import Part, cluster_part
from dit_prune_viz.app.session.recipe_changes import set_by_hand
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.select import keep_mask, keep_mask_groups
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.recipe_words import limits_in_words, title_of

WITHOUT, ONLY = "without", "only"
_numbers = itertools.count(1).__next__


@dataclass(frozen=True, eq=False)
class DrawnModel:
    """Pruned layers on the dense weights.

    Attributes:
        name: short, for labels: "dense", "DiT-Pruning 50 %".
        layers: layer → pruned layer; empty for the dense model.
        number: of its own for every one, 0 for the dense model; its pictures are kept under it.
        plan: of the session whose pruned model it is; None for the dense model and for one part of it alone.
    """

    name: str
    layers: Mapping[str, PrunedLayer] = field(default_factory=dict)
    number: int = field(default_factory=_numbers)
    plan: PruningPlan | None = None

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
    return DrawnModel(name_of_session(session), finish(session, progress).layers, plan=session.plan)


def of_part(session: Session, part: Part, mode: str = WITHOUT, sparsity: float = 1.0) -> DrawnModel:
    """The dense model without a part, or with nothing but that part left of what it belongs to.

    Args:
        session: a plan is needed for sparsities below 1 alone, whose saliencies then rank the weights.
        part: of its model.
        mode: WITHOUT prunes the part, ONLY all other weights of `part.among`; the rest of the model stays dense.
        sparsity: 0–1, of what is pruned; at 1 nothing of it is left and nothing is ranked.

    Raises:
        UserError: an unknown mode, a sparsity out of range, no plan where one is needed.
    """
    if mode not in (WITHOUT, ONLY):
        raise UserError(f"A part is either pruned ('{WITHOUT}') or all that is kept ('{ONLY}'), not {mode!r}.")
    sparsity = check_sparsity(sparsity)
    if sparsity < 1:
        session.need_plan()
    model, empty = session.need_model(), {}
    layers: dict[str, PrunedLayer] = {}
    for layer in part.layers if mode == WITHOUT else part.among:
        members, shape = part.layers.get(layer), tuple(model.layer(layer).shape)
        whole_layer = layer in part.layers and members is None
        if mode == ONLY and whole_layer:
            continue
        kept = None if members is None else members.unpack() if mode == ONLY else ~members.unpack()
        if sparsity < 1:
            mask = _ranked(session, layer, kept, sparsity)
        elif kept is None:
            mask = empty.setdefault(shape, _empty(shape))  # layers of one shape share it
        else:
            mask = pack(kept)
        layers[layer] = PrunedLayer(mask)
    name = f"{mode} {part.name}"
    if sparsity < 1:
        name = f"{part.name if mode == WITHOUT else f'all but {part.name}'} at {percent(sparsity)}"
    return DrawnModel(name, layers)


def of_cluster(session: Session, layer: str, cluster: int, mode: str) -> DrawnModel:
    """The dense model without one cluster of a layer, or with nothing but that cluster left of the layer.

    `mode` WITHOUT prunes all weights of the cluster, ONLY all others of its layer; every other layer stays dense.

    Raises:
        UserError: a layer without clusters, an unknown cluster or mode.
    """
    return of_part(session, cluster_part(session, layer, cluster), mode)


def _ranked(session: Session, layer: str, kept: Tensor | None, sparsity: float) -> PackedMask:
    """A mask that keeps all that is `kept`, None for nothing, and prunes a share of the rest, ranked as in the plan."""
    granularity = session.plan.layer(layer).granularity
    granularity = "layer" if n_of_m(granularity) else granularity  # N:M would choose the sparsity by itself
    scores = session.scores(layer)
    if kept is None:
        return pack(keep_mask(scores, sparsity=sparsity, granularity=granularity))
    labels = (~kept).to(torch.int64).flatten()
    return pack(keep_mask_groups(scores, labels, (None, sparsity), granularity, "weight"))


def _empty(shape: tuple[int, int]) -> PackedMask:
    return PackedMask(torch.zeros(-(-shape[0] * shape[1] // 8), dtype=torch.uint8), shape)


def name_of_session(session: Session) -> str:
    """What makes the session's masks, in a few words; the name that a person gave them, where there is one."""
    achieved = percent(session.report.achieved)
    if session.name is not None:
        return f"{session.name.of(session.plan)}, {achieved}"
    title = ", ".join([title_of(session.recipe), *limits_in_words(session.recipe)])
    by_hand = len(set_by_hand(session))
    return f"{title} {achieved} + {by_hand} by hand" if by_hand else f"{title} {achieved}"
