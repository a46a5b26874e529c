"""What a recipe forbids of layers: those that stay dense, and floors and ceilings of the others' sparsities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.formatting import percent
from dit_prune_viz.masks.counts import at_least, check_sparsity, removed
from dit_prune_viz.pipelines.layer_patterns import MOST_PATTERNS, Placed, layers_of, read_layer_patterns


@dataclass(frozen=True)
class Bounds:
    """A floor and a ceiling of the sparsity of each layer that a pattern means.

    Attributes:
        pattern: see `layer_patterns.layers_of`.
        least: 0–1.
        greatest: 0–1.

    Raises:
        UserError: unless 0 ≤ least ≤ greatest ≤ 1, or a pattern that cannot name layers.
    """

    pattern: str
    least: float = 0.0
    greatest: float = 1.0

    def __post_init__(self) -> None:
        read = read_layer_patterns([self.pattern])
        if len(read) != 1:
            raise UserError(f"Bounds belong to one pattern of layers each, not to {brief(self.pattern)}.")
        object.__setattr__(self, "pattern", read[0])
        for name in ("least", "greatest"):
            object.__setattr__(self, name, check_sparsity(getattr(self, name)))
        if self.least > self.greatest:
            raise UserError(
                f"The floor of {self.pattern}, {percent(self.least, 4)}, lies above its ceiling, "
                f"{percent(self.greatest, 4)}; exchange them."
            )


def read_bounds(given: object) -> tuple[Bounds, ...]:
    """Bounds from {pattern: (least, greatest)}, as JSON has them, or from several `Bounds`.

    Raises:
        UserError: anything else, a sparsity outside 0–1, or one pattern twice.
    """
    if isinstance(given, Mapping):
        for pattern, ends in given.items():
            if not isinstance(ends, list | tuple) or len(ends) != 2:
                raise UserError(f"Bounds of {brief(pattern)} are a floor and a ceiling, [0, 0.4], not {brief(ends)}.")
        found = tuple(Bounds(pattern, *ends) for pattern, ends in given.items())
    elif isinstance(given, list | tuple) and all(isinstance(one, Bounds) for one in given):
        found = tuple(given)
    else:
        raise UserError(f'Bounds are given as {{"adaLN": [0, 0.4]}}, not as {brief(given)}.')
    if len(found) > MOST_PATTERNS:
        raise UserError(f"There are bounds for {len(found):,} patterns, more than {MOST_PATTERNS:,}; use * in some.")
    patterns = [one.pattern for one in found]
    for pattern in patterns:
        if patterns.count(pattern) > 1:
            raise UserError(f"{pattern} has two floors and ceilings; keep one of them.")
    return found


class Sized(Placed, Protocol):
    """A layer with its names and its shape."""

    @property
    def shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Limits:
    """What each of a model's layers may lose.

    Attributes:
        dense: names of the layers that lose nothing.
        counts: layer → the least and the most weights that it may lose, for layers with bounds that are not dense.
    """

    dense: frozenset[str] = frozenset()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.dense or self.counts)

    def of(self, layer: str, weights: int) -> tuple[int, int]:
        """The least and the most weights that a layer may lose."""
        return (0, 0) if layer in self.dense else self.counts.get(layer, (0, weights))

    def holding(self, counts: Mapping[str, int]) -> Limits:
        """The same limits, but for layers that lose just so many weights, whatever was said of them."""
        held = {name: (count, count) for name, count in counts.items()}
        return Limits(self.dense - held.keys(), {**self.counts, **held})


def find_limits(ignore: Iterable[str], bounds: Iterable[Bounds], layers: Sequence[Sized]) -> Limits:
    """The limits of a model's layers. A layer that stays dense takes no notice of bounds; of several, all hold.

    Args:
        ignore: patterns of the layers that stay dense.
        bounds: of the others.
        layers: of the model.

    Raises:
        UserError: a pattern that means no layer, or a layer whose floor lies above its ceiling.
    """
    dense = frozenset(name for pattern in ignore for name in layers_of(pattern, layers))
    weights = {layer.name: layer.shape[0] * layer.shape[1] for layer in layers}
    counts: dict[str, tuple[int, int]] = {}
    for one in bounds:
        for name in layers_of(one.pattern, layers):
            low, high = counts.get(name, (0, weights[name]))
            size = weights[name]
            # One sparsity for both is one count, also where it falls between two.
            most = removed(size, one.greatest)
            counts[name] = max(low, min(at_least(size, one.least), most)), min(high, most)
            if counts[name][0] > counts[name][1] and name not in dense:
                raise UserError(
                    f"The floors and ceilings of layer {name} leave it no sparsity; lower a floor or raise a ceiling."
                )
    return Limits(dense, {name: ends for name, ends in counts.items() if name not in dense})


def reachable(limits: Limits, weights: Mapping[str, int], total: int, sparsity: float, *, by_hand: bool = False) -> int:
    """The budget itself, or the nearest that can be shared out where it misses that by rounding alone.

    Args:
        limits: of the layers.
        weights: layer → how many it has.
        total: how many are to go in all.
        sparsity: the share that `total` is, 0–1.
        by_hand: whether some of the limits are of layers set by hand.

    Returns:
        How many go.

    Raises:
        UserError: the layers may not lose as many, or have to lose more.
    """
    ends = [limits.of(name, size) for name, size in weights.items()]
    least, most, everything = sum(low for low, _ in ends), sum(high for _, high in ends), sum(weights.values())
    rounding = len(limits.counts)  # a floor and a ceiling are off by less than one weight in every layer
    if by_hand and not least - rounding <= total <= most + rounding:
        raise UserError(
            f"With the layers set by hand {percent(least / everything, 4)} to {percent(most / everything, 4)} of the "
            f"weights can go, not the {percent(sparsity, 4)} asked for; set them otherwise, or discard what was set by "
            "hand."
        )
    if most < total - rounding:
        raise UserError(
            f"Dense layers and ceilings let at most {percent(most / everything, 4)} of the weights go, less than the "
            f"{percent(sparsity, 4)} asked for; lower the sparsity, or keep less dense."
        )
    if least > total + rounding:
        raise UserError(
            f"The floors remove at least {percent(least / everything, 4)} of the weights, more than the "
            f"{percent(sparsity, 4)} asked for; raise the sparsity, or lower a floor."
        )
    return min(max(total, least), most)
