"""What one visitor's Layer page shows: the view, the selection, and which pictures the browser has already."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dit_prune_viz.app.pages.layer import captions, view
from dit_prune_viz.app.pages.layer.layout import ALGORITHMS, AUTOMATIC, COUNTS, EMPTY, NO_CUT, NO_PLANE, NO_TIMESTEPS
from dit_prune_viz.app.pages.layer.view import Picture, View
from dit_prune_viz.app.session.layer_selection import checked_units
from dit_prune_viz.app.session.layer_subject import is_clustered, subject
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table, plot
from dit_prune_viz.caching import Cache
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.figures.style import message

PAGES_BYTES = 4 << 20
"""Of the states of pages that are remembered; those used last stay."""


def new_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(eq=False)
class PageState:
    """One visitor's.

    visitor: gradio's session hash. token: what the browser shows to ask about this page's units; nobody can guess it.
    lock: held while updates are worked out, so that they leave in order.
    """

    visitor: str = ""
    view: View = field(default_factory=View)
    selection: Selection = field(default_factory=Selection)
    sent: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = field(default_factory=new_token)

    def select(self, session: Session | None, ids, mode: str, origin: str) -> None:
        """Change the selection of the layer that is shown. UserError for units the layer does not have."""
        layer = self.view.layer
        present = self.selection.of(subject(session, layer))
        if is_clustered(session, layer):
            ids = checked_units(session, layer, ids)
        self.selection = present.changed(ids, mode, origin)

    def updates(self, session: Session | None) -> list:
        """Updates for `LayerLayout.views`; what has not changed since it was sent is skipped."""
        try:
            return self._updates(session)
        except BaseException:
            self.sent.clear()  # what was worked out so far will not arrive
            raise

    def describe_selection(self, session: Session | None) -> str:
        """The selection in words."""
        return captions.describe_selection(session, self.view.layer, self.selection)

    def _updates(self, session: Session | None) -> list:
        layer = self.view.layer
        if not is_clustered(session, layer):
            return self._empty(session)
        self.selection = selected = self.selection.of(subject(session, layer))
        unit, algorithm, k = session.asked.get(layer, (session.clusters[layer].unit, "kmeans", 4))
        return [
            self._units(session),
            self._picture("plane", session, view.plane_picture(session, self.view, selected)),
            self._picture("cut", session, view.cut_picture(session, self.view, selected)),
            self._picture("timesteps", session, view.timesteps_picture(session, self.view, selected)),
            cluster_table.show(session, layer, captions.describe_layer(session, layer)),
            captions.describe_selection(session, layer, selected),
            self._once("unit", unit, lambda: unit),
            self._once("algorithm", algorithm, lambda: _algorithm(algorithm)),
            self._once("k", (k, algorithm), lambda: _count(k, algorithm)),
            captions.describe_clustering(session, layer),
            self._choice(view.cluster_choice_picture(session, layer), session),
        ]

    def _empty(self, session: Session | None) -> list:
        self.selection = Selection()
        sentences = {"units": EMPTY, "plane": NO_PLANE, "cut": NO_CUT, "timesteps": NO_TIMESTEPS}
        plots = [self._once(name, text, lambda text=text: plot.show(message(text))) for name, text in sentences.items()]
        table = cluster_table.show(session, self.view.layer)
        return [*plots, table, captions.HINT, gr.skip(), gr.skip(), gr.skip(), "", self._choice(None)]

    def _units(self, session: Session) -> Any:
        picture = view.units_picture(session, self.view)
        marks = plot.mark(self.selection)
        new = self.sent.get("units") != picture.key
        fresh = self.sent.get("marks") != marks
        self.sent |= {"units": picture.key, "marks": marks}
        if new:
            return gr.HTML(value=plot.owned(picture.to_json(session), self.token), **marks)
        return gr.HTML(**marks) if fresh else gr.skip()

    def _choice(self, picture: Picture | None, session: Session | None = None) -> Any:
        """The curve of what was tried, where the number of clusters was not set."""
        if picture is None:
            return self._once("choice", (), lambda: gr.HTML(visible=False))
        return self._once("choice", picture.key, lambda: gr.HTML(value=picture.to_json(session), visible=True))

    def _picture(self, name: str, session: Session, picture: Picture) -> Any:
        return self._once(name, picture.key, lambda: picture.to_json(session))

    def _once(self, name: str, key: Any, make: Callable[[], Any]) -> Any:
        if self.sent.get(name) == key:
            return gr.skip()
        self.sent[name] = key
        return make()


class PageStates:
    """The states of all visitors' pages, found by gradio's session or by the page's token."""

    def __init__(self, most: int = PAGES_BYTES) -> None:
        self._by_visitor, self._by_token = Cache(most), Cache(most)
        self._lock = threading.Lock()

    def of_visitor(self, request: gr.Request) -> PageState:
        """The state of the page that sends the request, made where it is new."""
        with self._lock:
            state = self._by_visitor.get(request.session_hash, lambda: PageState(request.session_hash))
            self._by_token.put(state.token, state)
        return state

    def of_token(self, token: object) -> PageState | None:
        """The state of the page with this token, None if there is none."""
        return self._by_token.find(token) if isinstance(token, str) else None


def _algorithm(algorithm: str) -> gr.Dropdown:
    choices = [*ALGORITHMS, (BY_HAND, BY_HAND)] if algorithm == BY_HAND else ALGORITHMS
    return gr.Dropdown(choices=choices, value=algorithm)


def _count(k: int | None, algorithm: str) -> gr.Dropdown:
    """How many clusters were asked for; HDBSCAN is not asked."""
    more = [(str(k), k)] if k is not None and k > COUNTS[-1][1] else []
    value = AUTOMATIC if k is None else k
    return gr.Dropdown(choices=[*COUNTS, *more], value=value, visible=algorithm != "hdbscan")
