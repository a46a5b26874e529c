"""Names by which a page says what it means: a layer, what a selection is of, one grouping of a layer's units.

The browser sends these names back, so that every one is checked against what the session holds.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session


def owned_layer(session: Session | None, name: object) -> str | None:
    """`name` itself where it is a prunable layer of the session's model, else None."""
    if session is None or session.model is None or not isinstance(name, str):
        return None
    return name if any(layer.name == name for layer in session.model.layers) else None


def is_clustered(session: Session | None, layer: object) -> bool:
    """Whether the layer has clusters to show; False for anything that is no layer of the session."""
    return session is not None and session.plan is not None and isinstance(layer, str) and layer in session.clusters


def subject(session: Session | None, layer: object) -> str:
    """Names what a selection is of: model, layer and kind of unit; empty where there is nothing to show."""
    if not is_clustered(session, layer):
        return ""
    return f"{session.model.number}/{layer}/{session.clusters[layer].unit}"


def layer_of(session: Session | None, named: object) -> str | None:
    """The layer of a `subject`; None unless it is one of this session as it is now."""
    layer = named.partition("/")[2].rpartition("/")[0] if isinstance(named, str) else ""
    return layer if layer and subject(session, layer) == named else None


def clustering_id(session: Session | None, layer: object) -> str | None:
    """A short name for how the units of a layer are grouped, which says what a slider was meant for.

    The same grouping found again has the same name. None where the layer has no clusters.
    """
    if not is_clustered(session, layer):
        return None
    clusters = session.clusters[layer]
    return f"{session.model.number}-{clusters.unit}-{clusters.k}-{zlib.crc32(clusters.labels):08x}"
