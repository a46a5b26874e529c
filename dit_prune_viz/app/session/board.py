"""The layers of a model as the Compare page's board shows them: a cell per block and kind, with its sparsity and its
sensitivity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dit_prune_viz.app.session.block_edits import sparsities_of
from dit_prune_viz.app.session.layer_edits import movable_layers
from dit_prune_viz.app.session.recipe_changes import change_recipe, set_by_hand
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.pipelines.kinds import KINDS

RANKS = 4
"""Layers are outlined by which quarter of the sensitivities theirs is in."""


@dataclass(frozen=True)
class Cell:
    """One layer.

    Attributes:
        name: of the layer.
        kind: what it is, the row of the board.
        block: its number, the column.
        weights: how many it has.
        share: sparsity, 0–1.
        by_hand: whether it was set by hand.
        fixed: whether it cannot be set.
        rank: 0–3, the quarter that its sensitivity is in, 3 the most sensitive; None where it was not measured.
        sensitivity: relative error of the model's output with it alone pruned; None where it was not measured.
    """

    name: str
    kind: str
    block: int
    weights: int
    share: float
    by_hand: bool
    fixed: bool
    rank: int | None
    sensitivity: float | None


def cells(session: Session) -> list[Cell]:
    """A cell for every layer, in the model's order. UserError without a plan."""
    model = session.need_plan()[0]
    shares, movable = sparsities_of(session), set(movable_layers(session))
    ranks, errors = sensitivity_ranks(session), session.output_errors
    by_hand = set(set_by_hand(session))
    return [
        Cell(
            layer.name,
            layer.kind,
            layer.block,
            layer.weights,
            shares[layer.name],
            layer.name in by_hand,
            layer.name not in movable,
            ranks.get(layer.name),
            errors.get(layer.name),
        )
        for layer in model.layers
    ]


def sensitivity_ranks(session: Session) -> dict[str, int]:
    """Layer → the quarter of all layers that it is in by measured sensitivity, 3 the most sensitive; empty unless
    measured.
    """
    errors = session.output_errors
    ordered = sorted(errors, key=errors.__getitem__)
    return {name: RANKS * place // len(ordered) for place, name in enumerate(ordered)}


def kinds_of(session: Session) -> list[str]:
    """The rows of the board."""
    return sorted({layer.kind for layer in session.need_model().layers}, key=KINDS.index)


def set_overall(session: Session, sparsity: float, progress: Progress | None = None) -> Session:
    """The session's recipe at another sparsity, 0–1; layers set by hand stay as they are.

    Raises:
        UserError: no plan, a sparsity out of range, and as in `change_recipe`.
    """
    session.need_plan()
    wanted = check_sparsity(sparsity)
    if wanted == session.recipe.sparsity:
        return session
    return change_recipe(session, replace(session.recipe, sparsity=wanted, tuned=()), progress)
