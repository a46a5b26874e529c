"""Sparsities of blocks, kinds and single layers as a person sees and sets them: as sliders, and as a short text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dit_prune_viz.app.session.layer_edits import movable_layers, set_layers
from dit_prune_viz.app.session.recipe_changes import set_by_hand
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import Progress
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.groups import removed_in_layer
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.sparsity_presets import Preset, presets
from dit_prune_viz.pruning.sparsity_text import block_layers, read_sparsities
from dit_prune_viz.pruning.sparsity_words import write_sparsities


@dataclass(frozen=True)
class Bar:
    """The layers that one slider sets.

    Attributes:
        key: what they are called in a text of sparsities.
        name: what they are called on the page.
        stack: path of the blocks' stack; "" for a kind.
        mean: 0–1, of all their weights.
        low: the least sparsity of one of the layers.
        high: the greatest.
        by_hand: whether any of them was set by hand.
        fixed: whether none can be set: the recipe keeps them dense or prunes them N:M.
    """

    key: str
    name: str
    stack: str
    mean: float
    low: float
    high: float
    by_hand: bool
    fixed: bool


def set_by_text(
    session: Session, text: str, *, keep_overall: bool = False, progress: Progress | None = None
) -> Session:
    """The session with the sparsities that a text gives to blocks, kinds and layers, see `sparsity_text`.

    Layers that lose as many weights already stay as they are, and so do layers that the recipe keeps dense or prunes
    N:M, unless the text names none but these.

    Args:
        session: with a plan.
        text: such as "0-4:30, 5-18:60, adaLN:40".
        keep_overall: whether the other layers make up for the change.
        progress: may raise `Cancelled`.

    Returns:
        The new session; the same one if nothing changes.

    Raises:
        UserError: no plan, a text that cannot be read, and whatever `set_layers` refuses.
    """
    model = session.need_plan()[0]
    wanted = read_sparsities(text, model.layers)
    movable = set(movable_layers(session))
    if movable & wanted.keys():
        wanted = {name: sparsity for name, sparsity in wanted.items() if name in movable}
    now = {layer.name: layer.removed for layer in session.report.layers}
    changed = {
        name: sparsity
        for name, sparsity in wanted.items()
        if name not in movable or now[name] not in _counts(session, model.layer(name), sparsity)
    }
    return set_layers(session, changed, keep_overall=keep_overall, progress=progress)


def _counts(session: Session, layer: Layer, sparsity: float) -> set[int]:
    """What a layer loses at a sparsity: as a whole, and rounded down in each of its groups."""
    granularity = session.plan.layer(layer.name).granularity
    return {removed(layer.weights, sparsity), removed_in_layer(layer.shape, granularity, sparsity)}


def sparsities_of(session: Session) -> dict[str, float]:
    """Layer → the sparsity, 0–1, that it was given; what it loses where clusters or an allocation decide that.

    Rounding to whole rows makes the two differ.

    Raises:
        UserError: no plan.
    """
    model, _, plan = session.need_plan()
    found = {}
    for report in session.report.layers:
        own = plan.layer(report.name)
        given = removed_in_layer(model.layer(report.name).shape, own.granularity, own.sparsity) == report.removed
        found[report.name] = own.sparsity if given and own.count is None else report.sparsity
    return found


def sparsity_text(session: Session) -> str:
    """The text that sets every layer as it is now. UserError without a plan."""
    return write_sparsities(sparsities_of(session), session.need_model().layers)


def sparsity_presets(session: Session) -> tuple[Preset, ...]:
    """Texts to choose from, at the sparsity that the model has now. UserError without a plan."""
    return presets(session.need_plan()[0].layers, session.report.achieved)


def bars(session: Session) -> tuple[list[Bar], list[Bar]]:
    """The sliders of the blocks, in the model's order, and those of the kinds. UserError without a plan."""
    layers, sparsities = session.need_plan()[0].layers, sparsities_of(session)
    movable, lost = set(movable_layers(session)), {layer.name: layer.removed for layer in session.report.layers}
    by_hand = set(set_by_hand(session))

    def bar(key: str, name: str, stack: str, group: Sequence[Layer]) -> Bar:
        shares = [sparsities[layer.name] for layer in group]
        mean = sum(lost[layer.name] for layer in group) / sum(layer.weights for layer in group)
        low, high = min(shares), max(shares)
        return Bar(
            key,
            name,
            stack,
            low if low == high else mean,
            low,
            high,
            any(layer.name in by_hand for layer in group),
            movable.isdisjoint(layer.name for layer in group),
        )

    blocks: dict[int, list[Layer]] = {}
    for layer in block_layers(layers):
        blocks.setdefault(layer.block, []).append(layer)
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    return (
        [bar(str(block), f"block {block}", group[0].stack, group) for block, group in sorted(blocks.items())],
        [bar(kind, kind, "", kinds[kind]) for kind in sorted(kinds, key=KINDS.index)],
    )
