"""The table of groups of layers: the Layer page's rows, for groups."""

from __future__ import annotations

from dit_prune_viz.app import formatting
from dit_prune_viz.app.pages.map.group_view import grouped_how
from dit_prune_viz.app.session import layer_groups
from dit_prune_viz.app.session.group_rows import GroupRow, group_rows
from dit_prune_viz.app.session.layer_groups import grouping_id, groups_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table, messages
from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.errors import Progress

WORDS = cluster_table.Wording(
    noun="group",
    units="layers",
    whole="model",
    facts=(
        ("layers", "number"),
        ("of weights", "number"),
        ("of energy", "number weights"),
        ("packed", "number weights"),
    ),
    curve="Damage over sparsity, up to {} of the model's output energy",
)


def show(session: Session | None) -> str:
    """The table's value; without rows where the model is not pruned."""
    at = messages.now()
    if session is None or session.plan is None:
        return cluster_table.rows_value(at, layer="", clustering="", caption="", rows=[], total=[])
    groups, found = groups_of(session), group_rows(session)
    sizes = [one.packed for one in found]
    rows = [_row(one, tag) for one, tag in zip(found, groups.tags, strict=True)]
    many = f"{groups.k} group{'' if groups.k == 1 else 's'}"
    return cluster_table.rows_value(
        at,
        layer="",
        clustering=grouping_id(session),
        caption=f"{len(groups.labels):,} layers in {many}, {grouped_how(session)}. The groups' damages add up to the "
        "model's; energy is Σ W²·E[x²].",
        rows=rows,
        total=(f"{len(groups.labels):,}", "", "", "" if None in sizes else formatting.size(round(sum(sizes)))),
    )


def _row(one: GroupRow, tag: Tag) -> cluster_table.Row:
    packed = "" if one.packed is None else formatting.size(round(one.packed))
    return cluster_table.Row(
        one.id,
        tag,
        one.weights,
        one.sparsity,
        one.damage,
        (
            f"{one.layers:,}",
            (formatting.percent(one.share), f"{one.removed:,} of {one.weights:,} weights are pruned"),
            formatting.percent(one.energy),
            (packed, "estimated bytes of its layers in the packed format"),
        ),
        one.curve,
        one.fixed,
    )


def apply(session: Session, edits: list[dict], progress: Progress | None = None) -> Session:
    """The session with the edits of the table made: those of `cluster_table.apply`, but of groups of layers.

    UserError for an unknown group or verb, or values that the verb does not take.
    """
    tag = layer_groups.tag_group
    verbs: dict[str, cluster_table.Verb] = {
        "sparsity": lambda now, _, group, edit: layer_groups.set_group(
            now, group, edit["sparsity"], keep_overall=bool(edit.get("keep", False)), progress=progress
        ),
        "rename": lambda now, _, group, edit: tag(now, group, name=edit["name"]),
        "look": lambda now, _, group, edit: tag(now, group, look=edit["look"]),
        "lock": lambda now, _, group, edit: tag(now, group, locked=edit["locked"]),
        "merge": lambda now, _, group, edit: layer_groups.merge_groups(now, [group, edit["other"]]),
        "split": lambda now, _, group, edit: layer_groups.split_group(now, group),
        "spread": lambda now, _, group, edit: layer_groups.spread_groups(now, progress),
    }
    return cluster_table.made(session, edits, verbs, lambda now, _: grouping_id(now), "Groups of layers")


def step_name(edits: list[dict]) -> str:
    """What undo calls these edits."""
    return cluster_table.step_name(edits, "groups of layers", "group {cluster}")
