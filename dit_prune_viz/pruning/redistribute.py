"""One cluster at a new sparsity while the layer as a whole keeps its own: the others make up for it, exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dit_prune_viz.errors import UserError


def redistribute(
    sizes: Sequence[int],
    counts: Sequence[int],
    cluster: int,
    count: int,
    *,
    locked: Collection[int] = (),
    steps: Sequence[int] | None = None,
) -> list[int]:
    """How many weights every cluster loses once `cluster` loses `count`, with the same sum as before.

    What the change leaves over is shared among the others by the room they have: by what they still hold where more
    has to go, by what they have lost where some comes back. If their room does not suffice, `cluster` goes as far as it
    does.

    Args:
        sizes: weights in each cluster.
        counts: how many of them go now.
        cluster: index of the cluster that changes.
        count: how many of its weights are to go.
        locked: indices of clusters that keep their counts.
        steps: a cluster's count changes by multiples of its step only (rows pruned alike, say), 1 unless given; the sum
            is then kept to within less than the smallest step.

    Returns:
        The new count of every cluster.

    Raises:
        UserError: a count that the cluster does not have, or every other cluster is locked or empty.
    """
    if not 0 <= count <= sizes[cluster]:
        raise UserError(f"A cluster of {sizes[cluster]:,} weights cannot lose {count:,}.")
    steps = [1] * len(sizes) if steps is None else list(steps)
    others = [i for i in range(len(sizes)) if i != cluster and i not in locked and sizes[i]]
    if not others:
        raise UserError("Every other cluster is locked; unlock one, or let the layer's sparsity change.")
    wanted = _stepped(count - counts[cluster], steps[cluster])
    sign = 1 if wanted < 0 else -1  # of what the others do
    room = [(sizes[i] - counts[i] if sign > 0 else counts[i]) // steps[i] * steps[i] for i in others]
    amount = min(abs(wanted), sum(room))
    amount -= amount % steps[cluster]
    given = [amount * space // (sum(room) or 1) // steps[i] * steps[i] for i, space in zip(others, room, strict=True)]
    left = amount - sum(given)
    # Largest remainders first, ties by index; once round is not enough where steps differ.
    order = sorted(range(len(others)), key=lambda j: (given[j] - amount * room[j] / (sum(room) or 1), j))
    while True:
        moved = False
        for j in order:
            step = steps[others[j]]
            if step <= left and given[j] + step <= room[j]:
                given[j], left, moved = given[j] + step, left - step, True
        if not moved:
            break
    new = list(counts)
    new[cluster] += -sign * amount
    for j, i in enumerate(others):
        new[i] += sign * given[j]
    return new


def _stepped(change: int, step: int) -> int:
    """`change` as a multiple of `step`, rounded towards 0."""
    return (abs(change) // step * step) * (1 if change > 0 else -1)
