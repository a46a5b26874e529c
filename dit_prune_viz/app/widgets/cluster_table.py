"""The table below the scatter: a row per cluster with a slider that changes its sparsity.

Its `input` events (see `messages`) carry the last edit of every row that was touched since the event before. When all
have been answered and nothing moves any more, a `submit` event says that the other views may follow: while the slider
moves, they would take the time it needs to follow the hand.
"""

from __future__ import annotations

import gradio as gr

from dit_prune_viz.app.session import cluster_edits, layer_data
from dit_prune_viz.app.session.layer_subject import clustering_id, is_clustered
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.figures import style

SCRIPT = messages.SCRIPT + script("widgets/cluster_table.js")
HEADERS = ("", "", "units", "weights", "share of energy", "sparsity, %", "predicted damage", "over sparsity", "")
TEMPLATE = (
    '<div class="cluster-tools" hidden><label title="What a slider changes, the unlocked clusters make up for">'
    '<input type="checkbox"> keep the layer\'s overall sparsity</label>'
    '<button type="button" data-verb="spread" title="Same number of pruned weights, shared out among the unlocked '
    'clusters so that predicted damage is least">Spread for least damage</button>'
    '<button type="button" data-verb="kind" title="The same clusters, by nearest centre, as sparse as here"></button>'
    '</div><table class="clusters" hidden><caption></caption><thead><tr>'
    + "".join(f'<th scope="col">{header}</th>' for header in HEADERS)
    + '</tr></thead><tbody></tbody><tfoot><tr><td></td><td class="name">layer</td>'
    + '<td></td><td class="number"></td><td></td><td class="sparsity"></td><td class="number"></td>'
    + "<td></td><td></td></tr></tfoot></table>"
)


def table() -> gr.HTML:
    """Its `input` event carries `number` and `edits`, see `apply`; its `select` event a `cluster` and a `mode`."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="cluster-table",
        apply_default_css=False,
        **messages.props(),
    )


answer = messages.answer


def show(session: Session | None, layer: str | None, caption: str = "") -> str:
    """The table's value, below a line of words; without rows where the layer has no clusters."""
    at = messages.now()
    if not is_clustered(session, layer):
        return messages.value(at, layer=layer, clustering="", caption="", rows=[])
    tags, curves = session.clusters[layer].tags, layer_data.cluster_curves(session, layer)
    rows = [
        {
            **vars(row),
            **vars(tag),
            "glyph": style.glyph(tag.look),
            "colour": style.colour(tag.look),
            "curve": None if curves is None else [float(f"{damage:.4g}") for damage in curves[row.id]],
        }
        for row, tag in zip(layer_data.cluster_rows(session, layer), tags, strict=True)
    ]
    kind = session.model.layer(layer).kind
    alike = sum(other.kind == kind for other in session.model.layers)
    shown = {
        "layer": layer,
        "clustering": clustering_id(session, layer),
        "editable": curves is not None,
        "kind": f"Apply to all {alike} layers {kind}" if alike > 1 else None,
    }
    return messages.value(at, **shown, caption=caption, rows=rows)


def apply(session: Session, edits: list[dict], progress: Progress | None = None) -> Session:
    """The session with the edits made: layer, clustering and cluster, and what the verb needs.

    sparsity (0–1, keep: whether the layer keeps its own), rename (name), look (index of a colour), lock (locked), merge
    (other), split; of the whole layer spread and kind. An edit of clusters that are gone, because the layer was
    clustered anew or another model was loaded meanwhile, is left out: its slider stood for other weights. UserError
    for an unknown cluster or verb, or values that the verb does not take.
    """
    for edit in edits:
        layer, cluster = edit["layer"], edit["cluster"]
        if clustering_id(session, layer) != edit["clustering"]:
            continue
        verb = edit.get("verb", "sparsity")
        if verb == "sparsity":
            keep = bool(edit.get("keep", False))
            session = cluster_edits.set_sparsity(session, layer, cluster, edit["sparsity"], keep_layer=keep)
        elif verb == "rename":
            session = cluster_edits.tag_cluster(session, layer, cluster, name=edit["name"])
        elif verb == "look":
            session = cluster_edits.tag_cluster(session, layer, cluster, look=edit["look"])
        elif verb == "lock":
            session = cluster_edits.tag_cluster(session, layer, cluster, locked=edit["locked"])
        elif verb == "merge":
            session = cluster_edits.merge_clusters(session, layer, [cluster, edit["other"]])
        elif verb == "split":
            session = cluster_edits.split_cluster(session, layer, cluster)
        elif verb == "spread":
            session = cluster_edits.spread(session, layer)
        elif verb == "kind":
            session = cluster_edits.apply_to_kind(session, layer, progress)
        else:
            raise UserError(f"Clusters cannot be changed by {brief(verb)}.")
    return session


def step_name(edits: list[dict]) -> str:
    """What undo calls these edits; the moves of one slider share a name and become one step."""
    if len(edits) == 1 and edits[0].get("verb", "sparsity") == "sparsity":
        edit = edits[0]
        return f"sparsity of {edit['layer']}, cluster {edit['cluster']}…"
    return "a change of clusters"
