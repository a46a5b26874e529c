"""A row per cluster with a slider that changes its sparsity: clusters of a layer's units, or groups of layers.

Its `input` events (see `messages`) carry the last edit of every row that was touched since the event before. When all
have been answered and nothing moves any more, a `submit` event says that the other views may follow: while the slider
moves, they would take the time it needs to follow the hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session import cluster_edits, layer_data
from dit_prune_viz.app.session.layer_subject import clustering_id, is_clustered
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.checks import brief
from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.figures import style

SCRIPT = messages.SCRIPT + script("widgets/cluster_table.js")


@dataclass(frozen=True)
class Wording:
    """What a table says of its rows.

    Attributes:
        noun: what a row is.
        units: what it consists of.
        whole: what all rows together are.
        facts: (header, class of its cells) of the columns that only tell something.
        curve: what the curve shows, {} standing for the greatest damage.
        more: verb → (label, explanation) of the buttons beside "Spread for least damage".
    """

    noun: str = "cluster"
    units: str = "units"
    whole: str = "layer"
    facts: tuple[tuple[str, str], ...] = (
        ("units", "number"),
        ("weights", "number weights"),
        ("share of energy", "number"),
    )
    curve: str = "Damage over sparsity, up to {} of the layer's energy"
    more: Mapping[str, tuple[str, str]] | None = None


OF_LAYER = Wording(more={"kind": ("", "The same clusters, by nearest centre, as sparse as here")})


def table(words: Wording = OF_LAYER, elem_id: str = "cluster-table") -> gr.HTML:
    """Its `input` event carries `number` and `edits`, see `apply`; its `select` event a `cluster` and a `mode`."""
    return gr.HTML(
        value="",
        html_template=_template(words),
        js_on_load=SCRIPT,
        elem_id=elem_id,
        apply_default_css=False,
        **messages.props(),
    )


def _template(words: Wording) -> str:
    rows, whole = f"{words.noun}s", words.whole
    spread = (
        f"Same number of pruned weights, shared out among the unlocked {rows} so that predicted damage is least",
        "Spread for least damage",
    )
    buttons = {"spread": spread} | {verb: (help, label) for verb, (label, help) in (words.more or {}).items()}
    tools = "".join(
        f'<button type="button" data-verb="{verb}" title="{escape(help)}">{escape(label)}</button>'
        for verb, (help, label) in buttons.items()
    )
    facts = "".join(f'<th scope="col" data-fact="{kind}">{escape(header)}</th>' for header, kind in words.facts)
    sums = "".join(f'<td class="number" data-label="{escape(header)}"></td>' for header, _ in words.facts)
    return (
        '<div class="clusters-card" hidden><div class="cluster-tools">'
        f'<label title="What a slider changes, the unlocked {rows} make up for">'
        f'<input type="checkbox"> keep the {whole}\'s overall sparsity</label>{tools}</div>'
        f'<table class="clusters" data-noun="{words.noun}" data-units="{words.units}" '
        f'data-curve="{escape(words.curve)}"><caption></caption><thead><tr>{_unseen("symbol")}{_unseen(words.noun)}'
        f'{facts}<th scope="col" class="sparsity">sparsity, %</th><th scope="col">predicted damage</th>'
        f'<th scope="col">over sparsity</th>{_unseen("more")}</tr></thead><tbody></tbody><tfoot><tr><td></td>'
        f'<td class="name">{whole}</td>{sums}<td class="sparsity" data-label="sparsity"></td>'
        '<td class="number sum" data-label="damage"></td><td></td><td></td></tr></tfoot></table></div>'
    )


def _unseen(header: str) -> str:
    """The header of a column that explains itself to who sees it."""
    return f'<th scope="col"><span class="plot-spoken">{escape(header)}</span></th>'


answer = messages.answer


@dataclass(frozen=True)
class Row:
    """What the table shows of a cluster.

    Attributes:
        id: of the cluster.
        tag: its name and look.
        weights: in it.
        sparsity: what the slider stands at, 0–1.
        damage: its share of the whole's.
        facts: what the columns say that only tell something, each alone or with an explanation.
        curve: its damage at evenly spaced sparsities; None where no sparsity can be chosen.
        fixed: how many of its weights the slider has no say in, and how many of these are pruned.
    """

    id: int
    tag: Tag
    weights: int
    sparsity: float
    damage: float
    facts: tuple[str | tuple[str, str], ...]
    curve: Sequence[float] | None
    fixed: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict:
        """In JSON's types."""
        curve = None if self.curve is None else [float(f"{damage:.4g}") for damage in self.curve]
        looks = {"glyph": style.glyph(self.tag.look), "colour": style.colour(self.tag.look)}
        own = {name: value for name, value in vars(self).items() if name != "tag"}
        return {**own, **vars(self.tag), **looks, "curve": curve}


def rows_value(
    at: float, *, layer: str | None, clustering: str, caption: str, rows: Sequence[Row], total: Sequence[str], **more
) -> str:
    """The table's value.

    Args:
        at: when its computation began, see `messages.now`.
        layer: comes back with every edit, as `clustering` does.
        clustering: names the grouping that the rows are of.
        caption: a line of words.
        rows: one per cluster.
        total: what the facts are of all rows together.
        more: verb → label of its button, which is hidden without.
    """
    shown = [row.to_dict() for row in rows]
    return messages.value(
        at, layer=layer, clustering=clustering, caption=caption, rows=shown, total=list(total), verbs=more
    )


def show(session: Session | None, layer: str | None, caption: str = "") -> str:
    """The value of a layer's table, below a line of words; without rows where the layer has no clusters."""
    at = messages.now()
    if not is_clustered(session, layer):
        return rows_value(at, layer=layer, clustering="", caption="", rows=[], total=[])
    tags, curves = session.clusters[layer].tags, layer_data.cluster_curves(session, layer)
    found = layer_data.cluster_rows(session, layer)
    rows = [
        Row(
            one.id,
            tag,
            one.weights,
            one.sparsity,
            one.damage,
            (f"{one.units:,}", f"{one.weights:,}", formatting.percent(one.energy)),
            None if curves is None else curves[one.id],
        )
        for one, tag in zip(found, tags, strict=True)
    ]
    kind = session.model.layer(layer).kind
    alike = sum(other.kind == kind for other in session.model.layers)
    return rows_value(
        at,
        layer=layer,
        clustering=clustering_id(session, layer),
        caption=caption,
        rows=rows,
        total=["", f"{sum(one.weights for one in found):,}", ""],
        kind=f"Apply to all {alike} layers {kind}" if alike > 1 else None,
    )


Verb = Callable[[Session, str, int, dict], Session]
"""From the session, the layer, the cluster and the edit itself to the session with the edit made."""


def apply(session: Session, edits: list[dict], progress: Progress | None = None) -> Session:
    """The session with the edits of a layer's table made: layer, clustering and cluster, and what the verb needs.

    sparsity (0–1, keep: whether the layer keeps its own), rename (name), look (index of a colour), lock (locked), merge
    (other), split; of the whole layer spread and kind. An edit of clusters that are gone, because the layer was
    clustered anew or another model was loaded meanwhile, is left out: its slider stood for other weights. UserError
    for an unknown cluster or verb, or values that the verb does not take.
    """
    tag = cluster_edits.tag_cluster
    verbs: dict[str, Verb] = {
        "sparsity": lambda now, layer, cluster, edit: cluster_edits.set_sparsity(
            now, layer, cluster, edit["sparsity"], keep_layer=bool(edit.get("keep", False))
        ),
        "rename": lambda now, layer, cluster, edit: tag(now, layer, cluster, name=edit["name"]),
        "look": lambda now, layer, cluster, edit: tag(now, layer, cluster, look=edit["look"]),
        "lock": lambda now, layer, cluster, edit: tag(now, layer, cluster, locked=edit["locked"]),
        "merge": lambda now, layer, cluster, edit: cluster_edits.merge_clusters(now, layer, [cluster, edit["other"]]),
        "split": lambda now, layer, cluster, edit: cluster_edits.split_cluster(now, layer, cluster),
        "spread": lambda now, layer, cluster, edit: cluster_edits.spread(now, layer),
        "kind": lambda now, layer, cluster, edit: cluster_edits.apply_to_kind(now, layer, progress),
    }
    return made(session, edits, verbs, clustering_id)


def made(
    session: Session,
    edits: list[dict],
    verbs: Mapping[str, Verb],
    clustering: Callable[[Session, str], str | None],
    noun: str = "Clusters",
) -> Session:
    """The session with edits made, one after another; those of another grouping than `clustering` names are left out.

    UserError for an unknown verb, and whatever the verbs refuse.
    """
    for edit in edits:
        if clustering(session, edit["layer"]) != edit["clustering"]:
            continue
        verb = verbs.get(edit.get("verb", "sparsity"))
        if verb is None:
            raise UserError(f"{noun} cannot be changed by {brief(edit['verb'])}.")
        session = verb(session, edit["layer"], edit["cluster"], edit)
    return session


def step_name(edits: list[dict], what: str = "clusters", row: str = "{layer}, cluster {cluster}") -> str:
    """What undo calls these edits; the moves of one slider share a name and become one step."""
    if len(edits) == 1 and edits[0].get("verb", "sparsity") == "sparsity":
        return f"sparsity of {row.format_map(edits[0])}…"
    return f"a change of {what}"
